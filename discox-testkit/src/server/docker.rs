//! A server as a container.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use testcontainers::bollard::container::LogOutput;
use testcontainers::bollard::exec::{CreateExecOptions, StartExecResults};
use testcontainers::bollard::models::{
    EndpointIpamConfig, EndpointSettings, Mount, MountType, NetworkConnectRequest, NetworkDisconnectRequest,
    PortBinding,
};
use testcontainers::bollard::query_parameters::{
    KillContainerOptionsBuilder, LogsOptionsBuilder, StartContainerOptions, UploadToContainerOptionsBuilder,
};
use testcontainers::bollard::{Docker, body_full};
use testcontainers::core::IntoContainerPort;
use testcontainers::core::client::docker_client_instance;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage, ImageExt};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::access::Access;
use super::layout::{Kind, Plan};
use super::network::Network;
use super::ports::Port;
use super::session::{LABEL, Session};
use super::{settings, tail};
use crate::wait::eventually_send;

/// Creating a container from a large image on a busy machine; pulling it is on top where it is not here.
const CREATION_TAKES: Duration = Duration::from_secs(120);
/// The daemon answers a kill before the process is gone.
const KILL_TAKES: Duration = Duration::from_secs(20);
/// How long it may take to freeze one.
const FREEZING_TAKES: Duration = Duration::from_secs(10);
/// Removing one; a daemon that takes longer is left to the watcher of the session.
const REMOVAL_TAKES: Duration = Duration::from_secs(30);

/// One server: its container once it was started, and what its next one is made with.
pub(crate) struct Container {
    kind: Kind,
    name: String,
    image: String,
    port: Port,
    network: Option<Arc<Network>>,
    docker: Docker,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    container: Option<ContainerAsync<GenericImage>>,
    /// Its address among its peers, kept for life: Consul tells it to them.
    ip: Option<String>,
    paused: bool,
    cut_off: bool,
}

impl Container {
    pub(crate) async fn new(
        kind: Kind,
        name: String,
        port: Port,
        network: Option<Arc<Network>>,
    ) -> Result<Container> {
        let docker = docker_client_instance().await?;
        Ok(Container {
            kind,
            name,
            image: settings::image(kind),
            port,
            network,
            docker,
            state: Mutex::default(),
        })
    }

    /// The member's folders: its data, its configuration, the builder's files. As in the official ZooKeeper image.
    pub(crate) fn folders() -> [String; 3] {
        ["/data", "/conf", "/discox-test"].map(str::to_owned)
    }

    /// Starts it: the container it has, or a new one with this plan.
    pub(crate) async fn launch(&self, plan: &Plan, wipe: bool) -> Result<()> {
        let mut state = self.state.lock().await;
        if wipe && let Some(old) = state.container.take() {
            old.rm().await?;
        }
        match &state.container {
            Some(_) => self.docker.start_container(&self.name, None::<StartContainerOptions>).await?,
            None => {
                let request = self.request(plan)?;
                state.container = Some(request.start().await.with_context(|| {
                    format!("container of image {} (scripts/fetch-test-servers provides it)", self.image)
                })?);
                state.ip = None;
                state.cut_off = false;
            }
        }
        if state.ip.is_none()
            && let Some(network) = &self.network
        {
            state.ip = Some(network.address_of(&self.docker, &self.name).await?);
        }
        Ok(())
    }

    fn request(&self, plan: &Plan) -> Result<ContainerRequest<GenericImage>> {
        let (image, tag) = match self.image.rsplit_once(':') {
            Some((image, tag)) if !tag.contains('/') => (image, tag),
            _ => (self.image.as_str(), "latest"),
        };
        let (inside, _) = self.kind.usual_ports();
        let mut image = GenericImage::new(image, tag).with_exposed_port(inside.tcp());
        if self.kind == Kind::Consul {
            // The official image's own would change the user.
            image = image.with_entrypoint("consul");
        }
        let outside = self.port.number().to_string();
        let mut request = image
            .with_container_name(&self.name)
            .with_hostname(&self.name)
            .with_label(LABEL, Session::get()?.owner())
            .with_startup_timeout(CREATION_TAKES)
            .with_host_config_modifier(move |host| {
                // A port chosen by the daemon would change at every start.
                let binding =
                    PortBinding { host_ip: Some("127.0.0.1".into()), host_port: Some(outside.clone()) };
                host.publish_all_ports = Some(false);
                // Its data lies on the host's file system: layers of the image may be slow to sync.
                let data = Mount {
                    target: Some("/data".into()),
                    typ: Some(MountType::VOLUME),
                    ..Default::default()
                };
                host.mounts = Some(vec![data]);
                host.port_bindings = Some(HashMap::from([(format!("{inside}/tcp"), Some(vec![binding]))]));
            });
        // ZooKeeper's images differ in their command, and agree on where they read their configuration.
        match self.kind {
            Kind::Etcd => {
                let command =
                    std::iter::once("/usr/local/bin/etcd".to_owned()).chain(plan.args.iter().cloned());
                request = request.with_cmd(command);
            }
            Kind::Consul => request = request.with_cmd(plan.args.iter().cloned()),
            Kind::Zookeeper => {}
        }
        for (name, value) in &plan.env {
            request = request.with_env_var(name, value);
        }
        for (path, content) in &plan.files {
            request = request.with_copy_to(path, content.clone());
        }
        if let Some(network) = &self.network {
            request = request.with_network(network.name());
        }
        Ok(request)
    }

    pub(crate) async fn write_file(&self, name: &str, content: &[u8]) -> Result<()> {
        let [_, _, files] = Container::folders();
        let mut header = tokio_tar::Header::new_gnu();
        header.set_size(u64::try_from(content.len())?);
        header.set_mode(0o644);
        let mut archive = tokio_tar::Builder::new(Vec::new());
        archive.append_data(&mut header, name, content).await?;
        let archive = body_full(archive.into_inner().await?.into());
        let into = UploadToContainerOptionsBuilder::new().path(&files).build();
        Ok(self.docker.upload_to_container(&self.name, Some(into), archive).await?)
    }

    /// What it is, for the log.
    pub(crate) fn describe(&self) -> String {
        format!("image {}", self.image)
    }

    /// Kills it by signal 9, if it runs.
    pub(crate) async fn kill(&self) -> Result<()> {
        let mut state = self.state.lock().await;
        if self.ended().await.is_some() {
            return Ok(());
        }
        if std::mem::take(&mut state.paused) {
            // The daemon kills no paused container.
            self.docker.unpause_container(&self.name).await?;
        }
        let nine = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        self.docker.kill_container(&self.name, Some(nine)).await?;
        eventually_send(KILL_TAKES, "its end", || self.ended()).await?;
        if let (Some(network), Some(ip), false) = (&self.network, &state.ip, state.cut_off) {
            // The next start would give it another address.
            self.leave(network.name()).await?;
            self.join(network.name(), Some(ip.clone())).await?;
        }
        Ok(())
    }

    /// Freezes it, or lets it go on.
    pub(crate) async fn pause(&self, pause: bool) -> Result<()> {
        let mut state = self.state.lock().await;
        if pause {
            // What is just being started in it may keep it from freezing, which the daemon reports and leaves at that.
            let frozen = || async {
                match self.docker.pause_container(&self.name).await {
                    Err(error) if error.to_string().contains("unable to freeze") => None,
                    outcome => Some(outcome),
                }
            };
            eventually_send(FREEZING_TAKES, "the daemon to freeze it", frozen).await??;
        } else {
            self.docker.unpause_container(&self.name).await?;
        }
        state.paused = pause;
        Ok(())
    }

    /// Takes it out of the peers' network and back. Clients reach it through another one meanwhile.
    pub(crate) async fn cut(&self, off: bool) -> Result<()> {
        let network = self.network.as_ref().context("it has no peers")?;
        let mut state = self.state.lock().await;
        if state.cut_off == off {
            return Ok(());
        }
        if off {
            self.join("bridge", None).await?;
            self.leave(network.name()).await?;
        } else {
            self.join(network.name(), state.ip.clone()).await?;
            self.leave("bridge").await?;
        }
        state.cut_off = off;
        Ok(())
    }

    async fn join(&self, network: &str, ip: Option<String>) -> Result<()> {
        let fixed = ip.map(|ip| EndpointIpamConfig { ipv4_address: Some(ip), ..Default::default() });
        let request = NetworkConnectRequest {
            container: self.name.clone(),
            endpoint_config: Some(EndpointSettings { ipam_config: fixed, ..Default::default() }),
        };
        self.docker.connect_network(network, request).await.with_context(|| format!("joining {network}"))
    }

    async fn leave(&self, network: &str) -> Result<()> {
        let request = NetworkDisconnectRequest { container: self.name.clone(), force: Some(true) };
        self.docker.disconnect_network(network, request).await.with_context(|| format!("leaving {network}"))
    }

    /// How it ended, if it does not run.
    pub(crate) async fn ended(&self) -> Option<String> {
        let found = self.docker.inspect_container(&self.name, None).await;
        let state = match found {
            Ok(found) => found.state?,
            Err(error) => return Some(error.to_string()),
        };
        let ended = !state.running.unwrap_or_default();
        ended.then(|| format!("exit code {}", state.exit_code.unwrap_or_default()))
    }

    pub(crate) async fn log_tail(&self) -> String {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail("100").build();
        let lines = self.docker.logs(&self.name, Some(options));
        tail(&lines.map(|line| line.map_or_else(|e| e.to_string(), text)).collect::<String>().await)
    }

    /// The registry's own command line, inside.
    pub(crate) async fn tool(&self, access: &Access, args: &[&str]) -> Result<String> {
        let program: &[&str] = match self.kind {
            Kind::Etcd => &["etcdctl"],
            Kind::Zookeeper => &["zkCli.sh", "-server", "127.0.0.1:2181"],
            Kind::Consul => &["consul"],
        };
        let mut env = vec!["ETCDCTL_API=3".to_owned()];
        let [_, _, files] = Container::folders();
        let mut flags =
            "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dzookeeper.root.logger=ERROR,CONSOLE".to_owned();
        for (name, value) in access.tool_env_in(&files) {
            match name.as_str() {
                "JVMFLAGS" => flags += &format!(" {value}"),
                _ => env.push(format!("{name}={value}")),
            }
        }
        env.push(format!("JVMFLAGS={flags}"));
        let options = CreateExecOptions {
            cmd: Some([program, args].concat()),
            env: Some(env.iter().map(String::as_str).collect()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..Default::default()
        };
        let exec = self.docker.create_exec(&self.name, options).await?.id;
        let StartExecResults::Attached { mut output, .. } = self.docker.start_exec(&exec, None).await? else {
            bail!("the daemon gave no output of the command");
        };
        let (mut out, mut err) = (String::new(), String::new());
        while let Some(part) = output.next().await {
            match part? {
                part @ LogOutput::StdErr { .. } => err += &text(part),
                part => out += &text(part),
            }
        }
        match self.docker.inspect_exec(&exec).await?.exit_code {
            Some(0) => Ok(out),
            code => bail!("exit code {}: {err}{out}", code.unwrap_or(-1)),
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Some(container) = self.state.get_mut().container.take() {
            finish(async move { Ok(container.rm().await?) });
        }
    }
}

/// Runs a removal to its end, inside and outside of a runtime.
pub(crate) fn finish(removal: impl Future<Output = Result<()>> + Send + 'static) {
    let removing = thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { timeout(REMOVAL_TAKES, removal).await? })
    });
    // What could not be removed is told, and left to the watcher of the session.
    match removing.join() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => eprintln!("discox-test: not removed: {error:#}"),
        Err(_) => eprintln!("discox-test: not removed"),
    }
}

fn text(part: LogOutput) -> String {
    String::from_utf8_lossy(&part.into_bytes()).into_owned()
}
