//! What is asked of an agent, and what its answers mean.

use std::collections::HashSet;

use bytes::BytesMut;

use super::{
    exchange::Client,
    fault::{Fault, Result, malformed, or_rejected},
    http::{Body, Head, Hold, Method, Request},
    token::TokenVersion,
};
use crate::{
    model::{
        Checks, Instance, Names, NodeService, OfNode, OnNode, Owned, Question, Registration, Ruling, Services,
    },
    why_gone::Report,
};

/// Consul takes no more questions about rights at once.
const QUESTIONS: usize = 64;

/// What `catalog/services` answered.
#[derive(Debug)]
pub(crate) struct Catalogue {
    /// Where the next blocking query goes on; 0 when Consul did not say.
    pub(crate) index: u64,
    /// Consul left out what the token may not see.
    pub(crate) filtered_by_acl: bool,
    pub(crate) names: Names,
}

impl Catalogue {
    fn read(head: &Head, body: &[u8]) -> Result<Self> {
        let names = serde_json::from_slice(body).map_err(malformed)?;
        Ok(Self { index: head.index, filtered_by_acl: head.filtered_by_acl, names })
    }
}

impl Client {
    /// The leader's address; empty when there is none. Never waits for other requests.
    pub(crate) async fn leader(&self) -> Result<String> {
        self.ask_at_once(Request::get(&["status", "leader"])).await?.json()
    }

    /// Registers a service with its check. The token with which the agent writes them to the catalogue from now on.
    pub(crate) async fn register(&self, registration: &Registration) -> Result<TokenVersion> {
        let request = Request::put(&["agent", "service", "register"]).body(registration)?;
        or_rejected(self.ask(request).await).map(|reply| reply.head.token)
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

    /// The catalogue's services of one node, as far as they match the filter expression. (`catalog/node` shows only
    /// those whose ID we may read as if it were a name: with exact rules, none.)
    pub(crate) async fn node_services(&self, node: &str, filter: &str) -> Result<Services> {
        let path = ["catalog", "node-services", node];
        let of_node: Option<OfNode> = self.ask(Request::list(&path).with("filter", filter)).await?.json()?;
        let services = of_node.unwrap_or_default().services;
        Ok(services.into_iter().map(|service| (service.id.clone(), service)).collect())
    }

    /// The nodes on which the catalogue has this record.
    pub(crate) async fn nodes_of(&self, service: &str, id: &str) -> Result<Vec<String>> {
        let path = ["catalog", "service", service];
        let request = Request::list(&path).with("filter", format!("ServiceID == \"{id}\""));
        let found: Vec<OnNode> = self.ask(request).await?.json()?;
        // An older server may not know the filter.
        Ok(found.into_iter().filter(|found| found.service_id == id).map(|found| found.node).collect())
    }

    /// Removes a node's service from the catalogue. One that is not there is no error.
    pub(crate) async fn deregister_node_service(&self, node: &str, id: &str) -> Result<()> {
        let request = Request::put(&["catalog", "deregister"]).body(&NodeService { node, service_id: id })?;
        match self.ask(request).await {
            Err(Fault::Status(_, said)) if said.contains("Unknown service") => Ok(()),
            answer => answer.map(drop),
        }
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
        match self.ask_held(request, hold, &mut BytesMut::new()).await {
            Ok(head) => Ok(Some(head.content_hash)),
            Err(Fault::Status(404, _)) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Whether the agent answers questions for a service at all.
    pub(crate) async fn answers_for(&self, service: &str) -> Result<()> {
        or_rejected(self.ask(Request::list(&["health", "service", service])).await).map(drop)
    }

    /// A service's instances with all their checks in a datacenter, or in the agent's own: a JSON array.
    pub(crate) async fn list(
        &self,
        service: &str,
        datacenter: Option<&str>,
        body: &mut impl Body,
    ) -> Result<Head> {
        let path = ["health", "service", service];
        or_rejected(self.ask_into(Request::list(&path).at(datacenter), body).await)
    }

    /// The same, once it is no longer what it was at `index`, or the wait is over.
    pub(crate) async fn list_after(
        &self,
        service: &str,
        datacenter: Option<&str>,
        index: u64,
        hold: Hold,
        body: &mut impl Body,
    ) -> Result<Head> {
        let path = ["health", "service", service];
        let request = Request::list(&path).at(datacenter).with("index", index.to_string());
        self.ask_held(request, hold, body).await
    }

    /// The names of all services of a datacenter.
    pub(crate) async fn names(&self, datacenter: Option<&str>) -> Result<Catalogue> {
        let reply = or_rejected(self.ask(Request::list(&["catalog", "services"]).at(datacenter)).await)?;
        Catalogue::read(&reply.head, &reply.body)
    }

    /// The same, once it is no longer what it was at `index`, or the wait is over.
    pub(crate) async fn names_after(
        &self,
        datacenter: Option<&str>,
        index: u64,
        hold: Hold,
    ) -> Result<Catalogue> {
        let request = Request::list(&["catalog", "services"]).at(datacenter).with("index", index.to_string());
        let mut body = BytesMut::new();
        let head = self.ask_held(request, hold, &mut body).await?;
        Catalogue::read(&head, &body)
    }

    /// Whose a service's records are.
    pub(crate) async fn owned(&self, service: &str, datacenter: Option<&str>) -> Result<Vec<Owned>> {
        or_rejected(self.ask(Request::list(&["catalog", "service", service]).at(datacenter)).await)?.json()
    }

    /// The index of something that hardly ever changes and that everybody may ask for, held while it is `index`.
    pub(crate) async fn quiet_index(&self, datacenter: Option<&str>, index: u64, hold: Hold) -> Result<u64> {
        let path = ["config", "proxy-defaults"];
        let request = Request::list(&path).at(datacenter).with("index", index.to_string());
        self.ask_held(request, hold, &mut BytesMut::new()).await.map(|head| head.index)
    }

    /// A service's instances in the agent's datacenter, as far as they match the filter expression.
    pub(crate) async fn instances(&self, service: &str, filter: &str) -> Result<Vec<Instance>> {
        let path = ["health", "service", service];
        or_rejected(self.ask(Request::list(&path).with("filter", filter)).await)?.json()
    }

    /// A service's instances in a datacenter, as far as they match the filter expression, with what their checks say.
    pub(crate) async fn reports(
        &self,
        service: &str,
        datacenter: Option<&str>,
        filter: &str,
    ) -> Result<Vec<Report>> {
        let path = ["health", "service", service];
        self.ask(Request::list(&path).at(datacenter).with("filter", filter)).await?.json()
    }

    /// Whether we may read a service and nodes; none when Consul does not say, such as without ACLs.
    pub(crate) async fn may_read(&self, service: &str, datacenter: Option<&str>) -> Result<Option<bool>> {
        Ok(self.allowed(&[service], datacenter).await?.map(|allowed| allowed.iter().all(|allow| *allow)))
    }

    /// Those of the services that we may not read. None of them when Consul does not say.
    pub(crate) async fn unreadable<'a>(
        &self,
        services: impl IntoIterator<Item = &'a str>,
    ) -> Result<HashSet<&'a str>> {
        let services: Vec<_> = services.into_iter().collect();
        let mut unreadable = HashSet::new();
        for some in services.chunks(QUESTIONS - 1) {
            let Some(allowed) = self.allowed(some, None).await? else { break };
            let may_read_nodes = allowed.first().copied().unwrap_or_default();
            let allowed = allowed.iter().skip(1).map(|allow| *allow && may_read_nodes);
            unreadable
                .extend(some.iter().zip(allowed).filter(|(_, allow)| !allow).map(|(service, _)| *service));
        }
        Ok(unreadable)
    }

    /// Whether we may read nodes, and each of these services.
    async fn allowed(&self, services: &[&str], datacenter: Option<&str>) -> Result<Option<Vec<bool>>> {
        let question = |resource, segment| Question { resource, segment, access: "read" };
        let mut questions = vec![question("node", "")];
        questions.extend(services.iter().map(|service| question("service", service)));
        let path = ["internal", "acl", "authorize"];
        let request = Request::new(Method::Post, &path).at(datacenter).body(&questions)?;
        match self.ask(request).await {
            Ok(reply) => Ok(Some(reply.json::<Vec<Ruling>>()?.iter().map(|ruling| ruling.allow).collect())),
            // Without ACLs it is 401.
            Err(Fault::Status(400..=499, _) | Fault::Denied(401, _)) => Ok(None),
            Err(fault) => Err(fault),
        }
    }
}
