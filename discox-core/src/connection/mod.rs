//! One connection, kept alive and shared by many.

mod call;
mod claims;
mod heartbeat;
mod hub;
mod residents;
mod shared;
mod supervisor;
mod withdraw;
mod withdrawals;

pub(crate) use self::{
    call::{call, guarded},
    claims::ClaimSignal,
    hub::{Hub, runtime},
    residents::Resident,
    shared::{Shared, Up},
    supervisor::STEADY,
    withdrawals::Gone,
};
