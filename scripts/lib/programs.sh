# shellcheck shell=bash
# protoc, OpenSSL and the servers as programs: those named by variables, else Debian's packages, else those on PATH.
# Every unpacked server is a folder $home/NAME with its upstream version in NAME/.version.

find_protoc() {
    if [ -n "${PROTOC:-}" ]; then return; fi
    if have protoc; then
        PROTOC=$(command -v protoc)
    elif [ -x "$home/bin/protoc" ]; then
        PROTOC=$home/bin/protoc
    elif has_apt; then
        unpack_protoc
    else
        die "protoc is missing: install the protobuf compiler (brew install protobuf, dnf install protobuf-compiler, ...) or set PROTOC"
    fi
}

unpack_protoc() {
    local root=$home/protoc libraries
    prepare_apt
    libraries=$(private_apt apt-cache depends --recurse --important protobuf-compiler |
        grep -xE 'lib(protoc|protobuf)[0-9].*' | sort -u)
    rm -rf "$root"
    # shellcheck disable=SC2086 # one word per package
    unpack "$root" protobuf-compiler libprotobuf-dev $libraries libc6 libgcc-s1 libstdc++6 zlib1g
    wrapper protoc "$root" usr/bin/protoc "-I$root/usr/include"
    PROTOC=$home/bin/protoc
    say "protoc: $("$PROTOC" --version)"
}

# OpenSSL's headers and library, with which discox-consul's optional client `consulrs` is built on Linux.
find_openssl() {
    if [ "$(uname -s)" != Linux ] || [ -n "${OPENSSL_DIR:-}${OPENSSL_LIB_DIR:-}" ]; then return; fi
    if have pkg-config && pkg-config --exists openssl; then return; fi
    if is_unpacked openssl; then
        :
    elif has_apt; then
        unpack_openssl
    else
        die "OpenSSL is missing: install its development files and pkg-config (dnf install openssl-devel pkgconf, ...) or set OPENSSL_DIR"
    fi
    OPENSSL_INCLUDE_DIR=$home/openssl/usr/include
    OPENSSL_LIB_DIR=$home/openssl/usr/lib
    OPENSSL_STATIC=1
}

unpack_openssl() {
    local root=$home/openssl package=libssl-dev
    # To be linked statically with this machine's C library, whatever its age, it must be an old one.
    if is_debian; then package=$package/bullseye; fi
    rm -rf "$root"
    unpack "$root" "$package"
    # Where openssl-sys looks: not in folders of one architecture.
    cp "$root"/usr/include/*-linux-*/openssl/*.h "$root/usr/include/openssl/"
    cp "$root"/usr/lib/*-linux-*/lib{ssl,crypto}.a "$root/usr/lib/"
    version_of "$package" >"$root/.version"
}

# is_unpacked NAME: has it been unpacked already?
is_unpacked() { [ -s "$home/$1/.version" ]; }

cannot_find() { # cannot_find SERVER WHAT_TO_SET
    die "no $1 to test against: start a Docker daemon, or install $1 and put it on PATH, or set $2 (see the head of scripts/fetch-test-servers)"
}

find_etcd() {
    if [ -n "${DISCOX_TEST_ETCD:-}" ]; then return; fi
    if is_debian; then
        unpack_etcd
    elif have etcd && have etcdctl; then
        DISCOX_TEST_ETCD=$(command -v etcd)
        DISCOX_TEST_ETCDCTL=$(command -v etcdctl)
    else
        cannot_find etcd "DISCOX_TEST_ETCD and DISCOX_TEST_ETCDCTL"
    fi
}

find_consul() {
    if [ -n "${DISCOX_TEST_CONSUL:-}" ]; then return; fi
    if is_debian; then
        unpack_consul
    elif have consul; then
        DISCOX_TEST_CONSUL=$(command -v consul)
    else
        cannot_find Consul DISCOX_TEST_CONSUL
    fi
}

find_zookeeper() {
    if [ -z "${DISCOX_TEST_ZOOKEEPER_CLASSPATH:-}" ]; then
        if is_debian; then
            unpack_zookeeper
        elif [ -n "${ZOOKEEPER_HOME:-}" ]; then
            DISCOX_TEST_ZOOKEEPER_CLASSPATH="$ZOOKEEPER_HOME/lib/*:$ZOOKEEPER_HOME/conf"
        else
            cannot_find ZooKeeper "ZOOKEEPER_HOME, or DISCOX_TEST_ZOOKEEPER_CLASSPATH"
        fi
    fi
    if [ -n "${DISCOX_TEST_JAVA:-}" ] || have java; then return; fi
    if is_debian; then
        unpack_java
    else
        die "no Java to run ZooKeeper with: install a headless JRE, or set DISCOX_TEST_JAVA"
    fi
}

unpack_etcd() {
    if is_unpacked etcd; then return; fi
    local root=$home/etcd
    rm -rf "$root"
    unpack "$root" etcd-server/trixie etcd-client/trixie libc6/trixie
    mkdir -p "$root/usr/local/bin"
    ln -s ../../bin/etcd ../../bin/etcdctl "$root/usr/local/bin/"
    wrapper etcd "$root" usr/bin/etcd
    wrapper etcdctl "$root" usr/bin/etcdctl
    version_of etcd-server/trixie >"$root/.version"
}

unpack_consul() {
    if is_unpacked consul; then return; fi
    local root=$home/consul
    rm -rf "$root"
    unpack "$root" consul/bullseye libc6/bullseye
    wrapper consul "$root" usr/bin/consul
    version_of consul/bullseye >"$root/.version"
}

# The jars ZooKeeper needs and no others: /usr/share/java holds several SLF4J bindings, which clash.
zookeeper_jars='zookeeper zookeeper-jute commons-cli commons-io jackson-annotations jackson-core jackson-databind
    jctools-core jetty9-http jetty9-io jetty9-security jetty9-server jetty9-servlet jetty9-util jetty9-util-ajax
    metrics-core netty-buffer netty-codec netty-common netty-handler netty-resolver netty-transport
    netty-transport-native-epoll netty-transport-native-unix-common servlet-api slf4j-api slf4j-log4j12 log4j-1.2
    snappy-java'

unpack_zookeeper() {
    if is_unpacked zookeeper; then return; fi
    local root=$home/zookeeper jar packages
    rm -rf "$root" "$home/bin/java"
    packages=$(printf '%s/trixie ' libzookeeper-java libcommons-cli-java libcommons-io-java \
        libjackson2-{annotations,core,databind}-java libjctools-java libjetty9-java libdropwizard-metrics-java \
        libnetty-java libservlet-api-java libslf4j-java liblog4j1.2-java libsnappy-java)
    # shellcheck disable=SC2086 # one word per package
    unpack "$root" $packages
    mkdir -p "$root"/opt/zookeeper/{lib,conf} "$root/usr/local/bin"
    for jar in $zookeeper_jars; do
        [ -e "$root/usr/share/java/$jar.jar" ] || die "Debian's ZooKeeper packages have no $jar.jar"
        ln -s "../../../usr/share/java/$jar.jar" "$root/opt/zookeeper/lib/$jar.jar"
    done
    cat >"$root/opt/zookeeper/conf/log4j.properties" <<'CONF'
log4j.rootLogger=${zookeeper.root.logger}
zookeeper.root.logger=INFO, CONSOLE
log4j.appender.CONSOLE=org.apache.log4j.ConsoleAppender
log4j.appender.CONSOLE.target=System.err
log4j.appender.CONSOLE.layout=org.apache.log4j.PatternLayout
log4j.appender.CONSOLE.layout.ConversionPattern=%d{ISO8601} %p [%c{1}] %m%n
CONF
    version_of zookeeper/trixie >"$root/.version"
}

# The jars that Apache Curator's service discovery needs as a client, and no others.
curator_jars='curator-client curator-framework curator-recipes curator-x-discovery guava
    jackson-annotations jackson-core jackson-databind netty-buffer netty-codec netty-common netty-handler
    netty-resolver netty-transport netty-transport-native-epoll netty-transport-native-unix-common slf4j-api
    slf4j-simple zookeeper zookeeper-jute'

# Curator is no server: a client that is not ours, which the tests of other systems' layouts are played against.
find_curator() {
    if [ -z "${DISCOX_TEST_CURATOR_CLASSPATH:-}" ]; then
        if is_debian; then
            unpack_curator
        else
            say "no Curator: its tests fail unless DISCOX_TEST_CURATOR_CLASSPATH is set"
            return
        fi
    fi
    if [ -n "${DISCOX_TEST_JDK:-}" ] || have javac; then return; fi
    if is_debian; then
        unpack_jdk
    else
        say "no javac: Curator's tests fail unless a JDK is on PATH or DISCOX_TEST_JDK is set"
    fi
}

unpack_curator() {
    if is_unpacked curator; then return; fi
    local root=$home/curator jar packages
    rm -rf "$root"
    packages=$(printf '%s/trixie ' libcurator-{client,discovery,framework,recipes}-java libguava-java \
        libjackson2-{annotations,core,databind}-java libnetty-java libslf4j-java libzookeeper-java)
    # shellcheck disable=SC2086 # one word per package
    unpack "$root" $packages
    mkdir -p "$root/opt/curator"
    for jar in $curator_jars; do
        [ -e "$root/usr/share/java/$jar.jar" ] || die "Debian's Curator packages have no $jar.jar"
        ln -s "../../usr/share/java/$jar.jar" "$root/opt/curator/$jar.jar"
    done
    version_of libcurator-discovery-java/trixie >"$root/.version"
}

# The wrappers $home/jdk/bin/java and javac.
unpack_jdk() {
    local root=$home/jdk java
    if [ -x "$root/bin/javac" ]; then return; fi
    rm -rf "$root"
    unpack "$root" openjdk-21-jdk-headless/trixie openjdk-21-jre-headless/trixie libc6/trixie zlib1g/trixie \
        libstdc++6/trixie libgcc-s1/trixie
    for java in "$root"/usr/lib/jvm/*/bin/javac; do
        wrapper javac "$root" "${java#"$root/"}"
        wrapper jdk-java "$root" "$(dirname "${java#"$root/"}")/java"
    done
    rm -f "$root/bin"
    mkdir "$root/bin"
    mv "$home/bin/javac" "$root/bin/javac"
    mv "$home/bin/jdk-java" "$root/bin/java"
}

# Java into ZooKeeper's folder: for its image, and for machines without one.
unpack_java() {
    if [ -x "$home/bin/java" ]; then return; fi
    local root=$home/zookeeper java
    unpack "$root" openjdk-21-jre-headless/trixie libc6/trixie zlib1g/trixie libstdc++6/trixie libgcc-s1/trixie
    java=$(unpacked_java)
    wrapper java "$root" "${java#"$root/"}"
}

# Where it is.
unpacked_java() {
    local java
    for java in "$home"/zookeeper/usr/lib/jvm/*/bin/java; do
        if [ -x "$java" ]; then
            echo "$java"
            return
        fi
    done
    return 1
}

record_unpacked_programs() {
    if is_unpacked etcd; then
        : "${DISCOX_TEST_ETCD:=$home/bin/etcd}" "${DISCOX_TEST_ETCDCTL:=$home/bin/etcdctl}"
    fi
    if is_unpacked consul; then : "${DISCOX_TEST_CONSUL:=$home/bin/consul}"; fi
    if is_unpacked zookeeper; then
        : "${DISCOX_TEST_ZOOKEEPER_CLASSPATH:=$home/zookeeper/opt/zookeeper/lib/*:$home/zookeeper/opt/zookeeper/conf}"
        if ! have java && [ -x "$home/bin/java" ]; then : "${DISCOX_TEST_JAVA:=$home/bin/java}"; fi
    fi
    if is_unpacked curator; then : "${DISCOX_TEST_CURATOR_CLASSPATH:=$home/curator/opt/curator/*}"; fi
    if ! have javac && [ -x "$home/jdk/bin/javac" ]; then : "${DISCOX_TEST_JDK:=$home/jdk}"; fi
}
