# shellcheck shell=bash
# The servers as container images: those named by variables, else the official ones when they are here or can
# be pulled, else images made of Debian's packages under names of their own.

docker_answers() { have docker && timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }
is_local() { docker image inspect "$1" >/dev/null 2>&1; }

# find_image SERVER OFFICIAL: sets DISCOX_TEST_SERVER_IMAGE.
find_image() {
    local server=$1 official=$2 variable
    variable=DISCOX_TEST_$(printf %s "$server" | tr '[:lower:]' '[:upper:]')_IMAGE
    if [ -n "${!variable:-}" ]; then
        say "$server: image ${!variable} (from $variable)"
    elif is_local "$official" || pull "$official"; then
        printf -v "$variable" %s "$official"
    else
        make_image "$server"
        printf -v "$variable" %s "$made_image"
    fi
}

# Asking for the manifest first tells within seconds whether a registry can be reached at all.
registry_silent=
pull() {
    [ -z "$registry_silent" ] || return 1
    if ! timeout 15 docker manifest inspect "$1" >/dev/null 2>&1; then
        registry_silent=yes
        say "no container registry answers: using images made of Debian's packages"
        return 1
    fi
    say "pulling $1"
    timeout 600 docker pull -q "$1" >/dev/null
}

# make_image SERVER: makes the image of Debian's packages unless it is there; sets made_image to its name.
make_image() {
    local server=$1
    is_debian || die "image of $server: neither here nor to be pulled, and only Debian's packages can stand in"
    "unpack_$server"
    made_image=discox-test/$server:$(cat "$home/$server/.version")
    if ! is_local "$made_image"; then
        say "making image $made_image"
        "import_$server" "$made_image"
    fi
}

# import ROOT IMAGE INSTRUCTIONS...: a container image with the content of ROOT.
import() {
    local root=$1 image=$2 changes=() change
    shift 2
    for change in "$@"; do changes+=(-c "$change"); done
    mkdir -p "$root/etc" "$root/tmp"
    echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
    tar -C "$root" --owner=0 --group=0 --numeric-owner -c . | docker import "${changes[@]}" - "$image" >/dev/null
}

# Where programs lie and what starts them follows the official images, so that the tests need not know which
# they run.
import_etcd() { import "$home/etcd" "$1" 'CMD ["/usr/local/bin/etcd"]' 'EXPOSE 2379 2380'; }

import_consul() { import "$home/consul" "$1" 'ENTRYPOINT ["consul"]' 'CMD ["agent", "-dev"]' 'EXPOSE 8500'; }

import_zookeeper() {
    local root=$home/zookeeper java class
    unpack_java
    java=$(unpacked_java)
    unpack "$root" busybox-static/trixie
    ln -sf busybox "$root/usr/bin/sh"
    for class in zkServer:server.quorum.QuorumPeerMain zkCli:ZooKeeperMain; do
        {
            echo '#!/bin/sh'
            # shellcheck disable=SC2016 # expanded when the script runs
            printf 'exec %s $JVMFLAGS -cp "/opt/zookeeper/lib/*:/opt/zookeeper/conf" %s "$@"\n' \
                "${java#"$root"}" "org.apache.zookeeper.${class#*:}"
        } >"$root/usr/local/bin/${class%%:*}.sh"
        chmod +x "$root/usr/local/bin/${class%%:*}.sh"
    done
    mkdir -p "$root/conf" "$root/data"
    import "$root" "$1" 'CMD ["zkServer.sh", "/conf/zoo.cfg"]' 'EXPOSE 2181 2888 3888'
}
