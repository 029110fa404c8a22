//! The heart beat: how a loss shows. The session keeps the records alive.

use discox_core::{
    Result,
    backend::{Held, Loss},
};

use crate::{
    Zookeeper,
    client::{Fault, Node},
    registrar::Receipt,
};

impl Zookeeper {
    /// Reads all held records, and tells which are not as they were written.
    pub(crate) async fn find_losses(&self, held: &[Held<Receipt>]) -> Result<Vec<(usize, Loss)>> {
        let paths: Vec<String> = held.iter().map(|held| self.place(&held.record).path).collect();
        let nodes = self.read_all(&paths).await?;
        let mut losses = Vec::new();
        for (position, (held, node)) in held.iter().zip(nodes).enumerate() {
            if let Some(loss) = self.loss(held, node)? {
                losses.push((position, loss));
            }
        }
        Ok(losses)
    }

    fn loss(&self, held: &Held<Receipt>, node: Result<Node, Fault>) -> Result<Option<Loss>, Fault> {
        let Node { data, stat } = match node {
            Err(Fault::NoNode) => return Ok(Some(Loss::Gone)),
            // Somebody changed its rights. That is no reason to give up the others.
            Err(Fault::NoAuth) => return Ok(Some(Loss::Altered)),
            node => node?,
        };
        Ok(if stat.owner != self.client.session().id {
            let is_free = stat.owner == 0 || self.is_ours(stat);
            Some(if is_free { Loss::Altered } else { Loss::Superseded })
        } else {
            let is_same = stat.created == held.receipt.0 && data == held.attr.as_bytes();
            (!is_same).then_some(Loss::Altered)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use discox_core::{
        BackendType, ConnectionConfig, RegisterConfig, ZookeeperOptions,
        backend::{Link, Replace},
        record::Record,
    };
    use discox_testkit::server::{Kind, Servers};

    use super::*;
    use crate::Connector;

    fn record() -> Record {
        let config = RegisterConfig {
            service_name: "demo".into(),
            service_endpoint: "10.0.0.1:80".into(),
            ..Default::default()
        };
        Record::parse(&config).unwrap()
    }

    #[tokio::test]
    async fn what_an_earlier_session_left_is_ours() -> anyhow::Result<()> {
        let server = Servers::single(Kind::Zookeeper).await?;
        let settings = ConnectionConfig {
            zookeeper: ZookeeperOptions {
                session_timeout: Some(Duration::from_secs(30)),
                client: discox_testkit::client(BackendType::Zookeeper),
                ..Default::default()
            },
            ..Default::default()
        };
        let connector = Arc::new(Connector::parse(&server.addresses(), &settings)?);
        let record = Arc::new(record());
        let mut receipts = Vec::new();
        for round in 0..3 {
            let link = Zookeeper::connect(&connector).await?;
            if let Some(receipt) = receipts.last().copied() {
                let held = Held { record: record.clone(), attr: "1".into(), receipt };
                assert_eq!(link.verify(&[held]).await?, [(0, Loss::Altered)]);
            }
            if round == 2 {
                link.withdraw(&record, receipts.last()).await?;
                let left = link.client.read(&["/demo/10.0.0.1:80".into()]).await?;
                assert!(matches!(left[..], [Err(Fault::NoNode)]), "{left:?}");
            } else {
                receipts.push(link.register(&record, "1", Replace::OnlyOwn).await?.receipt);
                connector.dialler.forget();
            }
        }
        assert_ne!(receipts[0], receipts[1]);
        Ok(())
    }
}
