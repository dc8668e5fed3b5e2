#!/bin/sh
# System programs that the tests use: Java 17 and Maven (Kafka), promtool (alert rules), systemd (the unit), Chromium
# (the browser SDK), Node.js and npm (other people's SDKs). With the argument `bench`: those of `make bench-cost`,
# which are wrk, Java and Maven.
# As root on Debian or Ubuntu it installs what is missing, without starting any service; elsewhere it says what is
# missing. It never fails: the tests that need something absent say so (and fail with CI=true).
set -u
cd "$(dirname "$0")/.."
tools=.cache/tools

has() { command -v "$1" >/dev/null 2>&1; }

has_java() {
    has java && [ "$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)" -ge 17 ] 2>/dev/null
}

packages=''
has_java || packages="$packages default-jre-headless"
has mvn || packages="$packages maven"
for_what='the tests'
if [ "${1:-}" = bench ]; then
    for_what='the bench'
    has wrk || packages="$packages wrk"
else
    has node || packages="$packages nodejs"
    has npm || packages="$packages npm"
    has chromium || packages="$packages chromium"
    has systemd-analyze || packages="$packages systemd"
    has setpriv && has unshare && has nsenter || packages="$packages util-linux"
fi

apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" </dev/null
}

# Says to every package's installation that no service may be started; gone when the block ends.
install_packages() {
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
        trap 'rm -f "$policy"' EXIT INT TERM HUP
    fi
    # shellcheck disable=SC2086  # a list of names
    apt install -y --no-install-recommends $packages
}

if [ -n "$packages" ]; then
    if [ "$(id -u)" = 0 ] && has apt-get; then
        echo "headgate: installing system packages for $for_what:$packages"
        { apt update && install_packages; } >.cache/apt.log 2>&1 || {
            echo "headgate: that failed; the end of .cache/apt.log:" >&2
            tail -n 5 .cache/apt.log >&2
        }
    else
        echo "headgate: $for_what: some programs are missing; on Debian: sudo apt-get install$packages" >&2
    fi
fi

[ "${1:-}" = bench ] && exit 0

# The package prometheus would start a server on 9090; promtool alone is taken out of it.
if ! has promtool && [ ! -x "$tools/usr/bin/promtool" ] && has apt-get && has dpkg-deb; then
    echo 'headgate: fetching promtool'
    rm -rf "$tools.new" && mkdir -p "$tools.new"
    (
        cd "$tools.new" || exit 1
        apt download prometheus || { [ "$(id -u)" = 0 ] && apt update && apt download prometheus; }
    ) >.cache/promtool.log 2>&1
    for package in "$tools.new"/prometheus_*.deb; do
        if dpkg-deb --fsys-tarfile "$package" 2>/dev/null | tar -x -C "$tools.new" ./usr/bin/promtool 2>/dev/null; then
            mkdir -p "$tools/usr/bin" && mv "$tools.new/usr/bin/promtool" "$tools/usr/bin/promtool"
        else
            echo 'headgate: promtool could not be fetched; see .cache/promtool.log' >&2
        fi
    done
    rm -rf "$tools.new"
fi
exit 0
