//! What a failed request is in the words of gRPC.

use std::sync::Arc;

use discox_balance::Cause;
use discox_http::Error;
use tonic::{Code, Status};

/// The status of a call that got no answer. Its source is the error.
pub(crate) fn of(error: Error) -> Status {
    let code = match &error {
        Error::Unavailable(unavailable) if *unavailable.cause() == Cause::Deadline => Code::DeadlineExceeded,
        Error::Broken { source, .. } => broken(source),
        _ => Code::Unavailable,
    };
    let mut status = Status::new(code, error.to_string());
    status.set_source(Arc::new(error));
    status
}

/// What a server that resets a stream means (gRPC over HTTP/2, "Errors"); a connection that is lost is UNAVAILABLE.
fn broken(error: &(dyn std::error::Error + 'static)) -> Code {
    let h2 = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    match h2.filter(|h2| h2.is_reset()).and_then(h2::Error::reason) {
        None | Some(h2::Reason::REFUSED_STREAM) => Code::Unavailable,
        Some(h2::Reason::CANCEL) => Code::Cancelled,
        Some(h2::Reason::ENHANCE_YOUR_CALM) => Code::ResourceExhausted,
        Some(h2::Reason::INADEQUATE_SECURITY) => Code::PermissionDenied,
        Some(_) => Code::Internal,
    }
}
