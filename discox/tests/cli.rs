//! The command line without a registry: help, wrong input, and registries that are not there.

#[allow(dead_code, reason = "each test file uses what it needs")]
mod program;

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use program::{Program, discox, finish, run};
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

/// The promise for a registry that is not there.
const GIVES_UP: Duration = Duration::from_secs(6);

const BACKENDS: [&str; 3] = ["etcd", "zookeeper", "consul"];

/// A port of ours that refuses connections: bound, so that nobody else takes it, but not listening.
fn refusing() -> Result<(Socket, String)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    let address = socket.local_addr()?.as_socket().map(|address| address.to_string()).unwrap_or_default();
    Ok((socket, address))
}

#[tokio::test]
async fn help_and_version_go_to_standard_output() -> Result<()> {
    let version = run(&["--version"]).await?.with(0, 0)?;
    assert_eq!(version.output, format!("discox {}\n", env!("CARGO_PKG_VERSION")));
    let help = run(&["--help"]).await?.with(0, 0)?;
    for word in [
        "register",
        "watch",
        "list",
        "serve",
        "services",
        "--backend-endpoint",
        "DISCOX_PREFIX",
        "--client",
        "--config",
        "--layout",
        "--output",
    ] {
        assert!(help.output.contains(word), "{word} is missing in {}", help.output);
    }
    let help = run(&["register", "--help"]).await?.with(0, 0)?;
    for word in ["--endpoint", "--attr", "--heart-beat", "--health-check", "COMMAND"] {
        assert!(help.output.contains(word), "{word} is missing in {}", help.output);
    }
    Ok(())
}

/// What is written and what the one line says of it.
#[tokio::test]
async fn wrong_input_gets_one_line_that_names_it_and_exit_code_2() -> Result<()> {
    let here = ["--backend", "etcd", "--backend-endpoint", "127.0.0.1:1", "--service", "demo"];
    let cases: &[(&[&str], &[&str])] = &[
        (&[], &["subcommand", "--help"]),
        (&["remove"], &["remove"]),
        (&["list", "--colour"], &["--colour"]),
        (&["list", "--backend", "redis"], &["unknown backend: redis, use etcd|zookeeper|consul|memory"]),
        (
            &["list", "--backend", "memory", "--service", "demo"],
            &["--backend", "memory", "inside one process"],
        ),
        (
            &["watch", "--backend", "memory", "--service", "demo"],
            &["--backend", "memory", "inside one process"],
        ),
        (&["list", "--backend-endpoint", "memory://x", "--service", "demo"], &["memory://x", "one process"]),
        (&["list", "--service", "demo"], &["backend_endpoints", "--backend-endpoint"]),
        (&["list", "--backend-endpoint", "http://", "--service", "demo"], &["backend_endpoints", "http://"]),
        (&["list", "--backend-endpoint", "127.0.0.1:1"], &["service_name", "must not be empty", "--service"]),
        (&["list", "--backend-endpoint", "127.0.0.1:1", "--service", "a/b"], &["service_name", "`a/b`"]),
        (&["list", "--output", "yaml"], &["yaml", "text", "json"]),
        (&["watch", "--grace", "soon"], &["--grace", "soon"]),
        (&["services"], &["backend_endpoints", "--backend-endpoint"]),
        (
            &["services", "--backend-endpoint", "127.0.0.1:1", "--prefix", "/.."],
            &["discover_prefix", "--prefix"],
        ),
        (&["serve", "--backend-endpoint", "127.0.0.1:1", "--listen", "7979"], &["--listen", "7979"]),
        (
            &["serve", "--backend-endpoint", "127.0.0.1:1", "--listen", "0.0.0.0:0"],
            &["--listen 0.0.0.0:0", "loopback", "--access-token-file"],
        ),
        (
            &["serve", "--backend-endpoint", "127.0.0.1:1", "--access-token-file", "/nowhere/token"],
            &["/nowhere/token", "--access-token-file"],
        ),
        (
            &["list", "--backend-endpoint", "127.0.0.1:1", "--service", "demo", "--user", "u"],
            &["password", "--password-file"],
        ),
        (
            &["list", "--backend-endpoint", "127.0.0.1:1", "--service", "demo", "--token-file", "t"],
            &["consul.token", "--token-file", "does not apply to etcd"],
        ),
        (
            &["list", "--backend-endpoint", "http://127.0.0.1:1", "--service", "demo", "--tls-ca", "ca.pem"],
            &["backend_endpoints", "use https://"],
        ),
        (
            &["list", "--backend-endpoint", "127.0.0.1:1", "--service", "demo", "--client", "curl"],
            &["--client", "use reqwest|consulrs|zookeeper-client|zookeeper-async"],
        ),
        (&["register", "--heart-beat", "5"], &["--heart-beat", "5"]),
    ];
    for (args, told) in cases {
        let ended = run(args).await?.with(2, 1)?;
        assert_eq!(ended.output, "");
        assert!(told.iter().all(|word| ended.errors.contains(word)), "{args:?}: {ended:?}");
    }
    let cases: &[(&[&str], &[&str])] = &[
        (&[], &["service_endpoint", "must not be empty", "--endpoint"]),
        (&["--endpoint", "127.0.0.1"], &["service_endpoint", "`127.0.0.1`", "host:port"]),
        (&["--endpoint", "127.0.0.1:08111"], &["service_endpoint", "use 127.0.0.1:8111"]),
        (&["--endpoint", "0.0.0.0:80"], &["service_endpoint", "unspecified"]),
        (&["--endpoint", "a:1", "--heart-beat", "0s"], &["heart_beat_period", "--heart-beat"]),
        (&["--endpoint", "a:1", "--ttl", "1s"], &["ttl", "--ttl"]),
        (&["--endpoint", "a:1", "--prefix", "/a/../b"], &["discover_prefix", "`/a/../b`", "--prefix"]),
    ];
    for (args, told) in cases {
        let args = [&["register"], &here[..], args].concat();
        let ended = run(&args).await?.with(2, 1)?;
        assert!(told.iter().all(|word| ended.errors.contains(word)), "{args:?}: {ended:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_flag_comes_before_a_variable_and_that_before_the_file() -> Result<()> {
    let folder = folder("precedence")?;
    let path = format!("{folder}/discox.toml");
    fs::write(
        &path,
        "backend = \"consul\"\nbackend_endpoint = [\"127.0.0.1:1\"]\nservice = \"from/file\"\n",
    )?;
    let told = |errors: &str, value: &str| {
        let line = format!("discox: service_name `{value}`: `/` is not allowed");
        ensure!(errors.starts_with(&line), "{value}: {errors}");
        Ok(())
    };
    let mut command = discox(&["list", "--config", &path]);
    told(&finish(command).await?.with(2, 1)?.errors, "from/file")?;
    command = discox(&["list"]);
    command.env("DISCOX_CONFIG", &path).env("DISCOX_SERVICE", "from/variable");
    told(&finish(command).await?.with(2, 1)?.errors, "from/variable")?;
    command = discox(&["--service", "from/flag", "list", "--config", &path]);
    command.env("DISCOX_SERVICE", "from/variable");
    told(&finish(command).await?.with(2, 1)?.errors, "from/flag")?;
    fs::remove_dir_all(folder)?;
    Ok(())
}

#[tokio::test]
async fn a_wrong_file_is_told_with_its_line() -> Result<()> {
    let folder = folder("wrong")?;
    let path = format!("{folder}/discox.toml");
    let ended = run(&["list", "--config", &path]).await?.with(2, 1)?;
    assert!(ended.errors.contains(&path), "{ended:?}");
    for (text, told) in [
        (
            "service = \"demo\"\nheartbeat = \"5s\"\n",
            "line 2, column 1: `heartbeat` is unknown, expected one of",
        ),
        ("\n\nheart_beat = \"soon\"\n", "line 3, column 14: `heart_beat` does not fit, expected a duration"),
        ("backend = \"redis\"\n", "line 1, column 11: `backend` does not fit, expected one of `etcd`"),
        (
            "[connection]\nrequest_timeout = 5\n",
            "line 2, column 19: `connection.request_timeout` does not fit",
        ),
        ("connection.tls = { ca = \"a\", cert = 5 }\n", "column 37: `connection.tls.cert` does not fit"),
        ("service = \"demo\n", "line 1"),
    ] {
        fs::write(&path, text)?;
        let ended = run(&["list", "--config", &path]).await?.with(2, 1)?;
        assert!(ended.errors.contains(&path) && ended.errors.contains(told), "{text:?}: {ended:?}");
    }
    // The library's names are understood as well, and so are settings of the other subcommands.
    let library = "backend_type = \"etcd\"\nbackend_endpoints = [\"127.0.0.1:1\"]\nservice_endpoint = \"a:1\"\n\
                   heart_beat_period = \"5s\"\n[connection]\nrequest_timeout = \"5s\"\n";
    fs::write(&path, library)?;
    let ended = run(&["list", "--config", &path]).await?.with(2, 1)?;
    assert!(ended.errors.contains("service_name"), "{ended:?}");
    fs::remove_dir_all(folder)?;
    Ok(())
}

/// A secret in its own place and in those of others, as every type and with every mistake of writing.
#[tokio::test]
async fn a_wrong_file_is_told_without_what_it_holds() -> Result<()> {
    let folder = folder("secret")?;
    let path = format!("{folder}/discox.toml");
    for (text, told) in [
        ("heart_beat = \"hunter2\"", "`heart_beat` does not fit, expected a duration"),
        ("heart_beat = \"hunter2, expected hunter2\"", "`heart_beat` does not fit, expected a duration"),
        ("backend = \"hunter2\"", "`backend` does not fit, expected one of `etcd`"),
        ("backend_endpoint = \"hunter2\"", "`backend_endpoint` does not fit, expected a sequence"),
        ("connection = \"hunter2\"", "`connection` does not fit, expected"),
        (
            "connection.zookeeper.sasl = \"hunter2\"",
            "`connection.zookeeper.sasl` does not fit, expected a boolean",
        ),
        (
            "connection.consul.client = \"hunter2\"",
            "`connection.consul.client` does not fit, expected one of `reqwest`",
        ),
        ("connection.max_endpoints = \"hunter2\"", "`connection.max_endpoints` does not fit, expected usize"),
        ("connection.tls = \"hunter2\"", "`connection.tls` does not fit, expected"),
        ("connection.tls.ca = [\"hunter2\"]", "`connection.tls.ca` does not fit, expected a string"),
        ("connection.tls.key = [\"hunter2\"]", "`connection.tls.key` does not fit, expected a text or {"),
        ("[connection]\npassword = [\"hunter2\"]", "line 2, column 12: `connection.password` does not fit"),
        (
            "[connection]\npassword = { text = \"hunter2\" }",
            "`connection.password` does not fit, expected a text or {",
        ),
        (
            "[connection]\npassword = { hunter2 = 1 }",
            "`connection.password` does not fit, expected a text or {",
        ),
        ("[connection.consul.token]\nfile = [\"hunter2\"]", "does not fit, expected a text or {"),
        (
            "[connection]\npasword = \"hunter2\"",
            "line 2, column 1: `connection.pasword` is unknown, expected one of",
        ),
        ("[connection]\npassword = hunter2", "line 2, column 12: "),
        ("[connection]\npassword = \"hunter2", "line 2, column "),
        ("[connection]\npassword = \"hunter2\" \"hunter2\"", "line 2, column 22: "),
        ("[connection]\npassword \"hunter2\"", "line 2, column "),
        ("[connection]\npassword = \"a\"\npassword = \"hunter2\"", "line 3, column 1: "),
        ("[connection]\npassword = \"hunter2\\q\"", "line 2, column "),
    ] {
        fs::write(&path, text)?;
        let ended = run(&["list", "--config", &path]).await?.with(2, 1)?;
        assert!(ended.errors.contains(told) && ended.errors.contains(&path), "{text:?}: {ended:?}");
        assert!(!ended.errors.contains("hunter2") && ended.output.is_empty(), "{text:?}: {ended:?}");
    }
    fs::remove_dir_all(folder)?;
    Ok(())
}

#[tokio::test]
async fn a_registry_that_refuses_connections_is_told_in_one_line_in_time() -> Result<()> {
    let (_socket, address) = refusing()?;
    gives_up_in_time(&address).await
}

#[tokio::test]
async fn a_registry_that_hangs_is_told_in_one_line_in_time() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    gives_up_in_time(&listener.local_addr()?.to_string()).await
}

async fn gives_up_in_time(address: &str) -> Result<()> {
    let mut running = Vec::new();
    for backend in BACKENDS {
        for action in [&["list"][..], &["register", "--endpoint", "127.0.0.1:8111"]] {
            let place = ["--backend", backend, "--backend-endpoint", address, "--service", "demo"];
            let args: Vec<String> = [action, &place].concat().into_iter().map(str::to_owned).collect();
            let address = address.to_owned();
            running.push(tokio::spawn(async move {
                let args: Vec<_> = args.iter().map(String::as_str).collect();
                let begun = Instant::now();
                let ended = run(&args).await?;
                let took = begun.elapsed();
                let ended = ended.with(1, 1)?;
                ensure!(took < GIVES_UP, "{args:?} took {took:?}");
                ensure!(ended.output.is_empty(), "{ended:?}");
                let names = ended.errors.contains(backend) && ended.errors.contains(&address);
                ensure!(names, "{args:?}: {ended:?}");
                Ok(())
            }));
        }
    }
    for one in running {
        one.await??;
    }
    Ok(())
}

#[tokio::test]
async fn watch_waits_for_the_registry_and_says_so_once() -> Result<()> {
    let (_socket, address) = refusing()?;
    for backend in BACKENDS {
        let place = ["--backend", backend, "--backend-endpoint", &address, "--service", "demo"];
        let mut watch = Program::start(&[&["watch", "--output", "json"], &place[..]].concat())?;
        let line = watch.json().await?;
        assert_eq!(line["event"], "error", "{line}");
        let message = line["message"].as_str().unwrap_or_default();
        assert!([backend, &address, "waiting"].iter().all(|word| message.contains(word)), "{line}");
        // It tries again within 100 ms, 200 ms, 400 ms, and so on.
        watch.silent(Duration::from_millis(1500)).await?;
        watch.signal(Signal::TERM)?;
        watch.end().await?.with(0, 0)?;
    }
    Ok(())
}

#[tokio::test]
async fn secrets_are_given_by_files_and_not_by_flags() -> Result<()> {
    let help = run(&["list", "--help"]).await?.with(0, 0)?;
    for word in ["--tls-ca", "--tls-cert", "--tls-key", "--user", "--password-file", "--token-file", "--acl"]
    {
        assert!(help.output.contains(word), "{word} is missing in {}", help.output);
    }
    for secret in ["--password ", "--token "] {
        assert!(!help.output.contains(secret), "{secret} would be in the process list");
    }
    Ok(())
}

/// A folder of our own, in the build folder.
fn folder(name: &str) -> Result<String> {
    let folder = format!("{}/{name}-{}", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    fs::create_dir_all(&folder)?;
    Ok(folder)
}
