//! The network of a container cluster, and what earlier test runs left behind.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use testcontainers::bollard::Docker;
use testcontainers::bollard::models::{Ipam, IpamConfig, NetworkCreateRequest};
use testcontainers::bollard::query_parameters::{
    ListContainersOptionsBuilder, ListNetworksOptionsBuilder, RemoveContainerOptionsBuilder,
};
use testcontainers::core::client::docker_client_instance;
use tokio::sync::OnceCell;

use super::docker::finish;
use super::session::{LABEL, Session, is_orphan};

/// A network of its own; removed when dropped, after its containers.
pub(crate) struct Network {
    name: String,
}

impl Network {
    /// Addresses come from 198.18.0.0/15, which is set aside for tests, so nobody else needs them. The daemon
    /// lets a container keep its address only where the subnet was chosen by the user.
    pub(crate) async fn create(name: String) -> Result<Network> {
        let docker = docker_client_instance().await?;
        let mut refused = None;
        for _ in 0..20 {
            let subnet = format!("198.{}.{}.0/24", fastrand::u8(18..=19), fastrand::u8(..));
            let config = IpamConfig { subnet: Some(subnet), ..Default::default() };
            let request = NetworkCreateRequest {
                name: name.clone(),
                labels: Some(HashMap::from([(LABEL.into(), Session::get()?.owner().into())])),
                ipam: Some(Ipam { config: Some(vec![config]), ..Default::default() }),
                ..Default::default()
            };
            match docker.create_network(request).await {
                Ok(_) => return Ok(Network { name }),
                Err(error) if error.to_string().contains("overlap") => refused = Some(error),
                Err(error) => return Err(error).context("network of the cluster"),
            }
        }
        bail!("no subnet for the cluster's network: {refused:?}")
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The address which this container was given.
    pub(crate) async fn address_of(&self, docker: &Docker, container: &str) -> Result<String> {
        let found = docker.inspect_container(container, None).await?;
        let networks = found.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        let address = networks.get(&self.name).and_then(|endpoint| endpoint.ip_address.clone());
        address.filter(|address| !address.is_empty()).context("the container has no address among its peers")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let name = std::mem::take(&mut self.name);
        finish(async move { Ok(docker_client_instance().await?.remove_network(&name).await?) });
    }
}

/// Removes, once per process, what belongs to test processes of this machine that are gone.
pub(crate) async fn sweep() -> Result<()> {
    static SWEPT: OnceCell<()> = OnceCell::const_new();
    SWEPT.get_or_try_init(remove_orphans).await.copied()
}

async fn remove_orphans() -> Result<()> {
    let docker = docker_client_instance().await?;
    let labelled = HashMap::from([("label", vec![LABEL])]);
    let all = ListContainersOptionsBuilder::new().all(true).filters(&labelled).build();
    let force = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    for container in docker.list_containers(Some(all)).await? {
        if let Some(id) = container.id.filter(|_| left_behind(container.labels)) {
            // Another test process may be sweeping, too.
            let _ = docker.remove_container(&id, Some(force.clone())).await;
        }
    }
    let networks = ListNetworksOptionsBuilder::new().filters(&labelled).build();
    for network in docker.list_networks(Some(networks)).await? {
        if let Some(id) = network.id.filter(|_| left_behind(network.labels)) {
            let _ = docker.remove_network(&id).await;
        }
    }
    Ok(())
}

fn left_behind(labels: Option<HashMap<String, String>>) -> bool {
    labels.and_then(|labels| labels.get(LABEL).map(|owner| is_orphan(owner))).unwrap_or_default()
}
