#!/bin/sh
# Installs the Debian/Ubuntu packages the project needs ("qt"), or those only its tests use ("test").
# As root with apt it installs what is missing; otherwise it prints the exact command and goes on:
# a person who has the libraries from elsewhere must not be stopped.
set -eu
case "${1:-qt}" in
qt) wanted="libgl1 libglib2.0-0 libfontconfig1 libdbus-1-3 libxkbcommon-x11-0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 libxcb-xfixes0 libxcb-xkb1" ;;
test) wanted="dcmtk dicom3tools orthanc orthanc-dicomweb xvfb xserver-xephyr xdotool openbox g++" ;; # g++ runs the CUDA kernels on the CPU; xdotool types at real windows; Xephyr has two monitors
*) echo "usage: $0 qt|test" >&2; exit 2 ;;
esac
command -v dpkg-query >/dev/null 2>&1 || { echo "Not a Debian/Ubuntu system: install the equivalents of: $wanted"; exit 0; }
missing=""
for package in $wanted; do
    # Ubuntu 24.04 and Debian 13 renamed some libraries (libglib2.0-0t64).
    dpkg-query -W -f='${Status}\n' "$package" "${package}t64" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing system packages:$missing"
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086
    if apt-get install -y -qq --no-install-recommends $missing >/dev/null 2>&1 ||
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing >/dev/null; }; then
        # Debian's orthanc becomes a service that listens; tests start their own.
        case "$missing" in *orthanc*) systemctl disable --now orthanc >/dev/null 2>&1 || true ;; esac
        exit 0
    fi
fi
echo "Missing system packages. Please run:"
echo "    sudo apt-get install -y --no-install-recommends$missing"
