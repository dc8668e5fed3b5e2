#!/bin/sh
# The command `headgate` of an installation: /opt/headgate/bin/headgate.
#
# Unless the caller names other settings (--config, HEADGATE_CONFIG) or just another data folder (HEADGATE_DATA_DIR),
# it acts for the installed service: the same settings, data folder and credentials. Called by root, it becomes the
# owner of the data folder, so that nothing in there comes to belong to root.
set -eu

root=/opt/headgate
etc=/etc/headgate
data=/var/lib/headgate
program=$root/current/bin/headgate
# What the program calls itself in lines that are to be pasted.
export HEADGATE_COMMAND="$root/bin/headgate"

settings=${HEADGATE_CONFIG:-}
[ -n "$settings" ] || [ "${HEADGATE_DATA_DIR:-$data}" = "$data" ] || settings=other
for argument; do
    case $argument in
    --) break ;;
    --config | --config=*) settings=other ;;
    esac
done

# NAME=value lines as systemd's EnvironmentFile= reads them, without its escapes. The caller's environment wins.
read_environment() {
    [ -r "$1" ] || return 0
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in HEADGATE_*=*) ;; *) continue ;; esac
        name=${line%%=*}
        value=${line#*=}
        case $name in *[!A-Z0-9_]*) continue ;; esac
        case $value in \"*\" | \'*\') value=${value#?} && value=${value%?} ;; esac
        eval "[ -n \"\${$name+set}\" ]" || export "$name=$value"
    done <"$1"
}

if [ "${settings:-$etc/headgate.toml}" = "$etc/headgate.toml" ]; then
    read_environment "$etc/environment"
    export HEADGATE_CONFIG="${HEADGATE_CONFIG:-$etc/headgate.toml}"
    export HEADGATE_DATA_DIR="${HEADGATE_DATA_DIR:-$data}"
    if [ -z "${CREDENTIALS_DIRECTORY:-}" ] && [ -x "$etc/credentials" ]; then
        export CREDENTIALS_DIRECTORY="$etc/credentials"
    fi
fi

folder=${HEADGATE_DATA_DIR:-}
if [ "$(id -u)" -eq 0 ] && [ -n "$folder" ] && [ -d "$folder" ]; then
    user=$(stat -c %u -- "$folder")
    if [ "$user" -ne 0 ]; then
        group=$(stat -c %g -- "$folder")
        umask 077
        export HOME="$folder"
        exec setpriv --reuid="$user" --regid="$group" --clear-groups -- "$program" "$@"
    fi
fi
exec "$program" "$@"
