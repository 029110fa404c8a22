//! One connection, kept alive and shared by many.

mod call;
mod claims;
mod fate;
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
    fate::Fate,
    hub::{Hub, runtime},
    residents::Resident,
    shared::{Shared, Up},
    supervisor::STEADY,
};
