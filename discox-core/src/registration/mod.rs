//! Keeping one endpoint registered.

mod chronicle;
mod handle;
mod keep_alive;
mod phase;
mod register;
mod run_until;
mod status;

pub(crate) use self::handle::Registration;
pub use self::{
    register::Register,
    status::{RegisterState, RegisterStatus},
};
