//! How each step is done, and what the book says of it.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use discox_core::Register;
use tokio::time::{sleep, timeout};

use super::{
    super::{process::Process, stage::Via, tools},
    schedule::Act,
    world::{Registrar, World, lock},
};
use crate::{proxy::Proxy, server::Kind, wait::eventually};

/// From the start of a process to its registration, in the midst of a storm.
const IN_A_STORM: Duration = Duration::from_secs(60);

impl World<'_> {
    /// Does it and, where it lasts, undoes it.
    ///
    /// # Errors
    /// What the harness could not do. What discox does wrong is judged at the end.
    pub(super) async fn play(&self, act: Act) -> Result<()> {
        match act {
            Act::Kill { member, down, data } => self.kill(member, down, data).await,
            Act::Pause { member, lasts } => self.pause(member, lasts).await,
            Act::Refuse { door, lasts } => self.refuse(door, lasts).await,
            Act::BlackHole { door, lasts } => {
                let _silent = self.silence().await;
                self.door(door)?.hold();
                sleep(lasts).await;
                self.door(door)?.release();
                Ok(())
            }
            Act::Slow { door, each_way, lasts } => {
                self.door(door)?.delay(each_way);
                sleep(lasts).await;
                self.door(door)?.delay(Duration::ZERO);
                Ok(())
            }
            Act::Reset => {
                self.stage.doors.iter().for_each(Proxy::reset_all);
                Ok(())
            }
            Act::Compact
            | Act::Defragment
            | Act::MoveLeader
            | Act::Delete { .. }
            | Act::Overwrite { .. }
            | Act::RevokeAll => {
                // A registry that is away at the moment takes no orders from its operator.
                let _ = self.operate(act).await;
                Ok(())
            }
            Act::Join { shared } => self.join(shared).await,
            Act::Leave { registrar } => self.leave(registrar).await,
            Act::Abandon { registrar } => {
                if let Some(gone) = self.take(registrar) {
                    self.stage.book.died(&gone.endpoint);
                }
                Ok(())
            }
            Act::CancelStart { after, shared } => self.cancel_start(after, shared).await,
            Act::CancelStop { registrar, after } => self.cancel_stop(registrar, after).await,
            Act::Update { registrar } => self.update(registrar, Duration::MAX).await,
            Act::CancelUpdate { registrar, after } => self.update(registrar, after).await,
            Act::TakeOver { registrar, shared } => self.take_over(registrar, shared).await,
            Act::KilledProcess { lives } => self.killed_process(lives).await,
            Act::FrozenProcess { lasts } => self.frozen_process(lasts).await,
            Act::Watch { lasts } => self.visit(lasts).await,
        }
    }

    fn door(&self, door: usize) -> Result<&Proxy> {
        self.stage.doors.get(door).context("no such proxy")
    }

    async fn kill(&self, member: usize, down: Duration, data: crate::server::Data) -> Result<()> {
        let _turn = self.member(member).await;
        let _silent = self.silence().await;
        let server = self.stage.servers.member(member);
        server.kill().await?;
        sleep(down).await;
        server.start(data).await
    }

    async fn pause(&self, member: usize, lasts: Duration) -> Result<()> {
        let _turn = self.member(member).await;
        let _silent = self.silence().await;
        let server = self.stage.servers.member(member);
        server.pause().await?;
        sleep(lasts).await;
        server.resume().await?;
        server.ready().await
    }

    async fn refuse(&self, door: usize, lasts: Duration) -> Result<()> {
        let _silent = self.silence().await;
        let door = self.door(door)?;
        door.refuse().await;
        door.reset_all();
        sleep(lasts).await;
        door.accept().await;
        Ok(())
    }

    async fn operate(&self, act: Act) -> Result<()> {
        let stage = self.stage;
        match act {
            Act::Compact => tools::compact(stage).await,
            Act::Defragment => tools::answering(stage).await?.tool(&["defrag"]).await.map(drop),
            Act::MoveLeader => self.move_leader().await,
            Act::Delete { registrar } => {
                let registrar = self.registrar(registrar).context("nobody")?;
                stage.book.removed_by_hand(&registrar.endpoint);
                tools::delete(stage, &registrar.endpoint).await
            }
            Act::Overwrite { registrar } => {
                let registrar = self.registrar(registrar).context("nobody")?;
                stage.book.removed_by_hand(&registrar.endpoint);
                tools::overwrite(stage, &registrar.endpoint).await.map(drop)
            }
            Act::RevokeAll => {
                self.registrars().iter().for_each(|one| stage.book.removed_by_hand(&one.endpoint));
                match stage.kind() {
                    Kind::Etcd => tools::revoke_leases(stage).await.map(drop),
                    _ => tools::close_sessions(stage).await.map(drop),
                }
            }
            _ => Ok(()),
        }
    }

    /// To the first member that takes it.
    async fn move_leader(&self) -> Result<()> {
        let (_, leader) = self.stage.servers.leader().await.context("no leader")?;
        let listed = leader.tool(&["member", "list"]).await?;
        for id in listed.lines().filter_map(|line| line.split(',').next()) {
            if leader.tool(&["move-leader", id.trim()]).await.is_ok() {
                break;
            }
        }
        Ok(())
    }

    fn make(&self, endpoint: &str, attr: &str, shared: bool) -> Result<Arc<dyn Register>> {
        let config = self.stage.register_config(endpoint, attr, Via::Doors);
        let register = if shared {
            self.stage.shared.register(config)?
        } else {
            (self.stage.suite.makers.new_register)(config)?
        };
        self.stage.truth.registration(endpoint, &register);
        Ok(register)
    }

    /// Patiently, as a service does: a start that fails is repeated.
    async fn join(&self, shared: bool) -> Result<()> {
        let (endpoint, attr) = (self.stage.newcomer(), self.attr());
        self.stage.book.live(&endpoint, &attr);
        let register = self.make(&endpoint, &attr, shared)?;
        // A start that failed leaves nothing, so that a record may come and go until one succeeds.
        self.stage.book.removed_by_hand(&endpoint);
        eventually(IN_A_STORM, "a start", async || register.start().await.ok()).await?;
        self.joined(endpoint, register);
        Ok(())
    }

    async fn leave(&self, number: usize) -> Result<()> {
        let Some(registrar) = self.take(number) else { return Ok(()) };
        let _turn = registrar.turn.lock().await;
        self.stage.book.died(&registrar.endpoint);
        if timeout(Duration::from_secs(10), registrar.register.stop()).await.is_err() {
            self.complain(format!("stop of {} took more than 10 s", registrar.endpoint));
        }
        Ok(())
    }

    async fn cancel_start(&self, after: Duration, shared: bool) -> Result<()> {
        let (endpoint, attr) = (self.stage.newcomer(), self.attr());
        self.stage.book.live(&endpoint, &attr);
        self.stage.book.died(&endpoint);
        let register = self.make(&endpoint, &attr, shared)?;
        let _ = timeout(after, register.start()).await;
        Ok(())
    }

    /// What it has begun is finished, whoever waits. The handle stays, as a user's would, for a while.
    async fn cancel_stop(&self, number: usize, after: Duration) -> Result<()> {
        let Some(registrar) = self.take(number) else { return Ok(()) };
        let _turn = registrar.turn.lock().await;
        self.stage.book.died(&registrar.endpoint);
        let _ = timeout(after, registrar.register.stop()).await;
        sleep(Duration::from_secs(5)).await;
        Ok(())
    }

    /// Acknowledged, failed or given up: it is the wanted attr from now on.
    async fn update(&self, number: usize, after: Duration) -> Result<()> {
        let Some(registrar) = self.registrar(number) else { return Ok(()) };
        let _turn = registrar.turn.lock().await;
        if !self.is_there(&registrar) {
            return Ok(());
        }
        let attr = self.attr();
        self.stage.book.live(&registrar.endpoint, &attr);
        let _ = timeout(after.min(Duration::from_secs(3_600)), registrar.register.update_attr(&attr)).await;
        Ok(())
    }

    /// It has not left while its turn was waited for.
    fn is_there(&self, registrar: &Arc<Registrar>) -> bool {
        self.registrars().iter().any(|one| Arc::ptr_eq(one, registrar))
    }

    async fn take_over(&self, number: usize, shared: bool) -> Result<()> {
        let Some(earlier) = self.registrar(number) else { return Ok(()) };
        let _turn = earlier.turn.lock().await;
        if !self.is_there(&earlier) {
            return Ok(());
        }
        let attr = self.attr();
        // A start that fails takes its record along, and that is repaired; the earlier one may write in between.
        self.stage.book.removed_by_hand(&earlier.endpoint);
        self.stage.book.live(&earlier.endpoint, &attr);
        let register = self.make(&earlier.endpoint, &attr, shared)?;
        eventually(IN_A_STORM, "a start that takes over", async || register.start().await.ok()).await?;
        self.replaced(&earlier, register);
        // Its stop removes nothing.
        let _ = timeout(Duration::from_secs(10), earlier.register.stop()).await;
        Ok(())
    }

    async fn process(&self) -> Result<Option<(String, Process)>> {
        let (endpoint, attr) = (self.stage.newcomer(), self.attr());
        self.stage.book.live(&endpoint, &attr);
        self.stage.book.roams(&endpoint);
        // It gives up where a start does.
        let process = Process::registered(self.stage, &endpoint, &attr, Via::Doors).await;
        Ok(process.ok().map(|process| (endpoint, process)))
    }

    async fn killed_process(&self, lives: Duration) -> Result<()> {
        let Some((_, process)) = self.process().await? else { return Ok(()) };
        sleep(lives).await;
        process.kill().await
    }

    async fn frozen_process(&self, lasts: Duration) -> Result<()> {
        let Some((endpoint, process)) = self.process().await? else { return Ok(()) };
        process.freeze(true)?;
        sleep(lasts).await;
        process.freeze(false)?;
        sleep(Duration::from_secs(2)).await;
        // It may not be able to withdraw its record: that ends by its TTL, and it says so.
        if let Err(error) = process.terminate().await {
            let text = format!("{error:#}");
            if text.contains("does not end") {
                self.complain(format!("the process of {endpoint}: {text}"));
            }
        }
        Ok(())
    }

    async fn visit(&self, lasts: Duration) -> Result<()> {
        let name = format!("visitor {}", lock(&self.visitors).len());
        let visitor = self.stage.watch(&name, self.stage.settings.grace, Via::Doors)?;
        sleep(lasts).await;
        if timeout(Duration::from_secs(10), visitor.discover.stop()).await.is_err() {
            self.complain(format!("stop of {name} took more than 10 s"));
        }
        lock(&self.visitors).push(visitor);
        Ok(())
    }
}
