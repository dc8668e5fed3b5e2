#!/bin/sh
# Installs Headgate as a systemd service: `sudo make install`, from a clone. Again for an upgrade; README.md says more.
#
#   /opt/headgate/releases/<name>   the code with an environment of its own, one folder per installation
#   /opt/headgate/current           a link to the newest; the service takes it at its next start
#   /opt/headgate/bin/headgate      the command
#   /etc/headgate                   settings and credentials, never overwritten
#   /etc/systemd/system, sysusers.d, tmpfiles.d, sysctl.d   one file each
#
# A running service keeps its release until it is restarted, reloads included. PYTHON= names an interpreter.
set -eu
# Root's umask may be 077, and the service's user has to read what is made here.
umask 022

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
source=$(dirname -- "$here")
root=/opt/headgate
etc=/etc/headgate
data=/var/lib/headgate

say() { printf '%s\n' "headgate: $*"; }
die() {
    say "$*" >&2
    exit 1
}

[ "$(id -u)" -eq 0 ] || die "installing changes /opt, /etc and the users of this machine: run it as root (sudo make install)"
for tool in flock install setpriv stat; do
    command -v "$tool" >/dev/null || die "$tool is missing; it is part of util-linux or coreutils"
done
[ -f "$source/config/headgate.toml" ] || die "$source is not a whole clone: config/headgate.toml is missing"

python=$(sh "$here/choose-python.sh")
say "using $python"

mkdir -p "$root/releases" "$root/bin"
exec 9>"$root/.lock"
flock -n 9 || die "another installation is running (it holds $root/.lock)"

# ---------------------------------------------------------------- the release: built aside, then switched to

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$source/pyproject.toml")
release=$root/releases/$version-$(date -u +%Y%m%dT%H%M%SZ)
[ ! -e "$release" ] || die "$release is there already: wait a second and run it again"
before=$(readlink "$root/current" 2>/dev/null || true)
work=$(mktemp -d)
switched=''

finish() {
    code=$?
    rm -rf "$work"
    if [ "$code" -ne 0 ] && [ -z "$switched" ]; then
        rm -rf "$release"
        say "not installed${before:+; $root/$before stays in use}" >&2
    fi
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

pip() { "$release/bin/python" -I -m pip --disable-pip-version-check --no-input --quiet "$@"; }
# Variables for a person's own installations would send the packages elsewhere.
unset PIP_PREFIX PIP_REQUIRE_VIRTUALENV PIP_ROOT PIP_TARGET PIP_USER

say "building $release"
"$python" -I -m venv "$release"
pip install --root-user-action=ignore --require-hashes --requirement "$source/requirements/runtime.txt"
# From here on everything needed is there: no index is asked, and nothing is built in isolation.
pip wheel --no-index --no-deps --no-build-isolation --wheel-dir "$work" "$source"
pip install --root-user-action=ignore --no-index --no-deps "$work"/headgate-*.whl

install -d "$release/doc"
install -m 0644 "$source/config/headgate.toml" "$here/notify-reload.conf" "$release/doc/"
for text in "$source/docs/operations.md" "$here/README.md"; do
    [ ! -f "$text" ] || install -m 0644 "$text" "$release/doc/"
done

# An account without any rights has to be able to run it: what it can, the service's user can. The shell is there
# because setpriv itself still finds programs with root's rights.
setpriv --reuid=65534 --regid=65534 --clear-groups -- \
    sh -c 'cd / && exec "$0" version' "$release/bin/headgate" >/dev/null ||
    die "the new installation does not start as an ordinary user"

# ---------------------------------------------------------------- user and folders

install -D -m 0644 "$here/headgate.sysusers" /etc/sysusers.d/headgate.conf
install -D -m 0644 "$here/headgate.tmpfiles" /etc/tmpfiles.d/headgate.conf
if command -v systemd-sysusers >/dev/null; then
    systemd-sysusers /etc/sysusers.d/headgate.conf
elif ! id headgate >/dev/null 2>&1; then
    useradd --system --user-group --no-create-home --home-dir "$data" --shell /usr/sbin/nologin \
        --comment "Headgate event gateway" headgate
fi
install -d -m 0750 -o root -g headgate "$etc" "$etc/credentials"
install -d -m 0700 -o headgate -g headgate "$data"

# Never overwritten, and never there without its final owner and mode: it may hold secrets.
if [ ! -e "$etc/headgate.toml" ]; then
    sed "s|^#* *data_dir *=.*|data_dir = \"$data\"|; s|^#* *mode *= *\"[a-z]*\"|mode = \"production\"|" \
        "$source/config/headgate.toml" >"$work/headgate.toml"
    install -m 0640 -o root -g headgate "$work/headgate.toml" "$etc/headgate.toml"
    say "wrote $etc/headgate.toml"
else
    say "kept $etc/headgate.toml; this version's defaults are in $root/share/headgate.toml"
fi

# ---------------------------------------------------------------- the switch

# A link replaced by renaming another over it: at no time is there none.
link() {
    ln -s "$1" "$2.new.$$"
    mv -T "$2.new.$$" "$2"
}
switched=yes
link "releases/${release##*/}" "$root/current"
link current/doc "$root/share"
install -m 0755 "$here/headgate.sh" "$root/bin/.headgate.new"
mv "$root/bin/.headgate.new" "$root/bin/headgate"

install -D -m 0644 "$here/headgate.service" /etc/systemd/system/headgate.service
install -D -m 0644 "$here/headgate-sysctl.conf" /etc/sysctl.d/60-headgate.conf
if command -v restorecon >/dev/null; then
    restorecon -R "$root" "$etc" "$data" /etc/systemd/system/headgate.service || true
fi

# Only our keys, but from all files, so that a value of the operator's own in a later file wins.
for sysctl in /usr/lib/systemd/systemd-sysctl /lib/systemd/systemd-sysctl; do
    if [ -x "$sysctl" ]; then
        "$sysctl" --prefix=/net/core/somaxconn --prefix=/net/ipv4/tcp_max_syn_backlog \
            --prefix=/net/ipv4/tcp_migrate_req ||
            say "the kernel settings of /etc/sysctl.d/60-headgate.conf cannot be set here; set them on the host"
        break
    fi
done

# ---------------------------------------------------------------- what is old

# The release before stays for a way back (README.md), and each one that some process still runs from.
for old in "$root"/releases/*; do
    case $old in "$release" | "$root/$before") continue ;; esac
    if grep -qsF "$old/" /proc/[0-9]*/maps; then
        say "kept $old: a process runs from it"
    else
        rm -rf "$old"
    fi
done

say "installed $version"
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    if systemctl is-active --quiet headgate.service; then
        say "the running service keeps its release until: systemctl restart headgate"
    else
        say "start it: systemctl enable --now headgate"
    fi
else
    say "systemd does not run here; where it does: systemctl enable --now headgate"
fi
