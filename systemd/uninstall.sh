#!/bin/sh
# Removes what install.sh put on this machine: the service, the code, the files below /etc/systemd, sysusers.d,
# tmpfiles.d and sysctl.d. Data, settings, credentials, drop-ins and the user stay, and it says where they are.
set -eu

root=/opt/headgate

say() { printf '%s\n' "headgate: $*"; }

[ "$(id -u)" -eq 0 ] || {
    say "uninstalling changes /opt and /etc: run it as root (sudo make uninstall)" >&2
    exit 1
}

unit=/etc/systemd/system/headgate.service
if [ -e "$unit" ] && command -v systemctl >/dev/null; then
    if [ -d /run/systemd/system ]; then
        systemctl stop headgate.service
        systemctl reset-failed headgate.service 2>/dev/null || true
    fi
    systemctl --quiet disable headgate.service
fi
rm -f "$unit" /etc/sysusers.d/headgate.conf /etc/tmpfiles.d/headgate.conf /etc/sysctl.d/60-headgate.conf
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi

rm -rf "$root/releases" "$root/current" "$root/share" "$root/bin/headgate" "$root/.lock"
for folder in "$root/bin" "$root"; do
    [ ! -d "$folder" ] || rmdir "$folder" 2>/dev/null || say "left $folder: it holds files that are not Headgate's"
done

say "removed"
left() {
    [ ! -e "$1" ] || say "left $1: $2"
}
left /var/lib/headgate "the data"
left /etc/headgate "settings and credentials"
left /etc/systemd/system/headgate.service.d "changes to the unit"
! id headgate >/dev/null 2>&1 || say "left the user headgate, who owns the data"
say "to remove these as well: rm -r the folders, then userdel headgate"
