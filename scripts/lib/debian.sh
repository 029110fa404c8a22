# shellcheck shell=bash
# Packages of a Debian-family machine, unpacked below $home. A private apt root with its own lists, cache and
# sources: the machine's packages, lists and settings stay as they are. apt checks every signature.

apt_root=$home/apt
debian_keys=/usr/share/keyrings/debian-archive-keyring.gpg

# Can packages be fetched here at all?
has_apt() { have apt-get && have dpkg-deb; }

# Is this Debian itself, so that the releases which carry the servers are on its mirror?
is_debian() {
    has_apt && [ -r "$debian_keys" ] && (. /etc/os-release && [ "${ID:-}" = debian ])
}

# The machine's own package sources, one `deb` line each.
own_sources() {
    apt-get indextargets --format '$(CREATED_BY) deb $(REPO_URI) $(RELEASE) $(COMPONENT)' |
        sed -n 's/^Packages //p' | sort -u
}

private_apt() { # private_apt COMMAND ARGS...: one of apt's commands in the private root
    "$1" -qq -c "$apt_root/conf" "${@:2}"
}

# Makes the private root and reads the package lists, once in a run.
apt_ready=
prepare_apt() {
    [ -z "$apt_ready" ] || return 0
    mkdir -p "$apt_root/lists/partial" "$apt_root/cache/archives/partial"
    : >"$apt_root/status"
    if is_debian; then
        local mirror
        # The plain release, not its updates or security archive: that is the full mirror.
        mirror=$(own_sources | awk '$3 ~ /^[a-z]+$/ { print $2; exit }')
        [ -n "$mirror" ] || die "apt names no Debian mirror on this machine (apt-get indextargets)"
        printf "deb [signed-by=$debian_keys] $mirror %s main\n" trixie bullseye >"$apt_root/sources.list"
    else
        own_sources >"$apt_root/sources.list"
    fi
    cat >"$apt_root/conf" <<CONF
Dir::State "$apt_root";
Dir::State::status "$apt_root/status";
Dir::Cache "$apt_root/cache";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Dir::Etc::sourcelist "$apt_root/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
APT::Sandbox::User "$(id -un)";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
CONF
    say "reading package lists into a private apt root"
    private_apt apt-get update || die "apt-get update failed in $apt_root (is the mirror reachable?)"
    apt_ready=yes
}

# unpack ROOT PACKAGE[/RELEASE]...: unpacks these packages, and only these, into ROOT.
unpack() {
    local root=$1 debs deb
    shift
    prepare_apt
    say "fetching $*"
    debs=$(mktemp -d "$apt_root/debs.XXXXXX")
    (cd "$debs" && private_apt apt-get download "$@") || die "could not fetch $*"
    mkdir -p "$root"/usr/{bin,sbin,lib,lib64}
    for deb in bin sbin lib lib64; do
        [ -e "$root/$deb" ] || ln -s "usr/$deb" "$root/$deb"
    done
    for deb in "$debs"/*.deb; do
        dpkg-deb --fsys-tarfile "$deb" | tar -C "$root" -x --keep-directory-symlink --no-same-owner
    done
    rm -rf "$debs"
    # Packages link to /etc and the like by absolute paths, which would leave ROOT.
    local link
    find "$root" -type l -lname '/*' -print | while read -r link; do
        ln -sfnr "$root$(readlink "$link")" "$link"
    done
}

# version_of PACKAGE[/RELEASE]: its upstream version, such as 3.5.16.
version_of() {
    prepare_apt
    private_apt apt-cache show "$1" 2>/dev/null |
        sed -n 's/^Version: *\([0-9]*:\)\{0,1\}\([0-9][0-9.]*[0-9]\).*/\2/p' | head -n 1
}

# wrapper NAME ROOT PROGRAM [ARGS...]: $home/bin/NAME runs ROOT/PROGRAM with the C library of ROOT, whatever
# this machine's own is, with ARGS after those it is given.
wrapper() {
    local name=$1 root=$2 program=$3 loader libraries
    shift 3
    loader=$(find "$root/usr/lib64/" "$root/usr/lib/" -maxdepth 1 -name 'ld-linux*.so*' | head -n 1)
    libraries=$(dirname "$(find "$root/usr/lib" -name 'libc.so.6' | head -n 1)")
    {
        echo '#!/bin/sh'
        printf 'exec %q --library-path %q %q "$@"' "$loader" "$libraries" "$root/$program"
        [ $# -eq 0 ] || printf ' %q' "$@"
        echo
    } >"$home/bin/$name"
    chmod +x "$home/bin/$name"
}
