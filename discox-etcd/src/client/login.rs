//! Logging in, and again where the server has forgotten or changed what it knew of us.

use std::{
    io,
    sync::{
        Once,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use discox_core::{BackendType, ConnectionConfig, Secret, backend::Files};
use etcd_client::{Client, Error as ClientError};
use tokio::sync::Mutex;
use tracing::{debug, warn};

use crate::error;

/// The credentials of one connection.
///
/// `etcd-client` could log in by itself, but it does not do so where authentication was switched on or a user was
/// changed since, fails where it is switched off, and would not read a rotated password.
#[derive(Debug)]
pub(crate) struct Login {
    user: String,
    password: Secret,
    /// One login at a time.
    turn: Mutex<()>,
    /// Logins so far.
    count: AtomicU64,
}

impl Login {
    /// None without credentials.
    pub(crate) fn new(settings: &ConnectionConfig) -> Option<Self> {
        let (user, password) = (settings.user.clone()?, settings.password.clone()?);
        Some(Self { user, password, turn: Mutex::new(()), count: AtomicU64::new(0) })
    }

    /// How often we have logged in: what a call that fails has been made with.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// Logs in, unless it was done since `count`. Where authentication is switched off we go on without a token,
    /// which is told once: `told` outlives the connection.
    pub(crate) async fn log_in(
        &self,
        client: &Client,
        count: u64,
        files: &Files,
        told: &Once,
    ) -> Result<(), ClientError> {
        let _turn = self.turn.lock().await;
        if self.count() != count {
            return Ok(());
        }
        let secret = self.password.clone();
        let read = files.read(&format!("`password`, {secret:?},"), move || secret.read()).await;
        let password = read.map_err(|error| ClientError::IoError(io::Error::other(error)))?;
        let mut client = client.clone();
        match client.update_user(Some((self.user.clone(), password.to_string()))).await {
            Err(error) if error::is_auth_off(&error) => {
                client.update_user(None).await?;
                told.call_once(|| {
                    warn!(backend = %BackendType::Etcd, user = self.user,
                        "etcd has authentication switched off: `user` and `password` are not used until it is on");
                });
            }
            logged_in => {
                logged_in?;
                debug!(backend = %BackendType::Etcd, user = self.user, "logged in");
            }
        }
        self.count.fetch_add(1, Relaxed);
        Ok(())
    }
}
