//! What is asked of an agent, and what its answers mean.

use super::{
    Fault, Hold, Result,
    exchange::{Client, Method, Reply, Request},
    messages::{Checks, Instance, OfNode, Question, Registration, Ruling, Services},
};

/// What `health/service` answered.
#[derive(Debug)]
pub(crate) struct Health {
    /// Where the next blocking query goes on; 0 when Consul did not say.
    pub(crate) index: u64,
    /// Consul left out what the token may not see. Only newer servers say so.
    pub(crate) filtered_by_acl: bool,
    pub(crate) instances: Vec<Instance>,
}

impl TryFrom<Reply> for Health {
    type Error = Fault;

    fn try_from(reply: Reply) -> Result<Self> {
        let instances = reply.json()?;
        Ok(Self { index: reply.index, filtered_by_acl: reply.filtered_by_acl, instances })
    }
}

impl Client {
    /// The leader's address; empty when there is none. Never waits for other requests.
    pub(crate) async fn leader(&self) -> Result<String> {
        self.ask_at_once(Request::get(&["status", "leader"])).await?.json()
    }

    /// Registers a service with its check.
    pub(crate) async fn register(&self, registration: &Registration) -> Result<()> {
        let request = Request::put(&["agent", "service", "register"]).body(registration)?;
        self.ask(request).await.map(drop)
    }

    /// Removes a service. One that the agent does not know is no error.
    pub(crate) async fn deregister(&self, id: &str) -> Result<()> {
        match self.ask(Request::put(&["agent", "service", "deregister", id])).await {
            Err(Fault::Status(404, _)) => Ok(()),
            // So say older servers with ACLs.
            Err(Fault::Status(500, said)) if said.contains("Unknown service") => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// Passes a TTL check; false when the agent does not know it.
    pub(crate) async fn pass(&self, check: &str) -> Result<bool> {
        match self.ask(Request::put(&["agent", "check", "pass", check])).await {
            Ok(_) => Ok(true),
            Err(Fault::Status(404, _)) => Ok(false),
            // So say servers before 1.12, without ACLs and with them.
            Err(Fault::Status(500, said)) if said.contains("does not have associated TTL") => Ok(false),
            Err(Fault::Status(500, said)) if said.contains("Unknown check") => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// The agent's services, as far as they match the filter expression.
    pub(crate) async fn services(&self, filter: &str) -> Result<Services> {
        self.ask(Request::list(&["agent", "services"]).with("filter", filter)).await?.json()
    }

    /// The catalogue's services of one node, as far as they match the filter expression.
    pub(crate) async fn node_services(&self, node: &str, filter: &str) -> Result<Services> {
        let path = ["catalog", "node", node];
        let of_node: Option<OfNode> = self.ask(Request::list(&path).with("filter", filter)).await?.json()?;
        Ok(of_node.unwrap_or_default().services)
    }

    /// The agent's checks, as far as they match the filter expression.
    pub(crate) async fn checks(&self, filter: &str) -> Result<Checks> {
        self.ask(Request::list(&["agent", "checks"]).with("filter", filter)).await?.json()
    }

    /// Reads one of the agent's services, held while its hash is `hash`. The hash, or none when the
    /// agent does not know the service.
    pub(crate) async fn service_hash(
        &self,
        id: &str,
        hash: Option<&str>,
        hold: Hold,
    ) -> Result<Option<String>> {
        let path = ["agent", "service", id];
        let mut request = Request::get(&path);
        if let Some(hash) = hash {
            request = request.with("hash", hash);
        }
        match self.ask_held(request, hold).await {
            Ok(reply) => Ok(Some(reply.content_hash)),
            Err(Fault::Status(404, _)) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// A service's instances with all their checks in a datacenter, or in the agent's own.
    pub(crate) async fn health(&self, service: &str, datacenter: Option<&str>) -> Result<Health> {
        self.ask(Request::list(&["health", "service", service]).at(datacenter)).await?.try_into()
    }

    /// The same, once it is no longer what it was at `index`, or the wait is over.
    pub(crate) async fn health_after(
        &self,
        service: &str,
        datacenter: Option<&str>,
        index: u64,
        hold: Hold,
    ) -> Result<Health> {
        let path = ["health", "service", service];
        let request = Request::list(&path).at(datacenter).with("index", index.to_string());
        self.ask_held(request, hold).await?.try_into()
    }

    /// A service's instances in the agent's datacenter, as far as they match the filter expression.
    pub(crate) async fn health_among(&self, service: &str, filter: &str) -> Result<Health> {
        let path = ["health", "service", service];
        self.ask(Request::list(&path).with("filter", filter)).await?.try_into()
    }

    /// Whether we may read a service and nodes; none when Consul does not say, such as without ACLs.
    pub(crate) async fn may_read(&self, service: &str, datacenter: Option<&str>) -> Result<Option<bool>> {
        let question = |resource, segment| Question { resource, segment, access: "read" };
        let path = ["internal", "acl", "authorize"];
        let request = Request::new(Method::Post, &path).at(datacenter);
        let request = request.body(&[question("service", service), question("node", "")])?;
        match self.ask(request).await {
            Ok(reply) => Ok(Some(reply.json::<Vec<Ruling>>()?.iter().all(|ruling| ruling.allow))),
            // Without ACLs it is 401.
            Err(Fault::Status(400..=499, _) | Fault::Denied(401, _)) => Ok(None),
            Err(fault) => Err(fault),
        }
    }
}
