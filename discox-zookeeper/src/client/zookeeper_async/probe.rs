//! Which member to connect to. The client itself would wait two minutes for one that is cut off, and
//! try one without a quorum over and over, without a pause.

use std::{net::SocketAddr, time::Duration};

use discox_core::backend::Members;

use crate::{
    client::{Answer, Fault},
    member::ask,
};

/// The address of a member that serves, chosen at random. Names are resolved here, each time.
pub(super) async fn serving(members: &[String], per_member: Duration) -> Answer<SocketAddr> {
    let members = Members::new(members.to_vec());
    members.first(per_member, |member| ask(member)).await.map_err(|_| Fault::NoMember)
}
