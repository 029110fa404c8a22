//! `discox services`: prints the names of the services under a prefix, once or as they come and go.

use discox::RegistryConfig;

use crate::{
    failure::Failure,
    output::{Format, print_names},
    watch::{self, Subject},
};

/// Prints the names once, or follows them until a signal comes.
pub(crate) async fn run(config: RegistryConfig, is_watch: bool, output: Format) -> Result<u8, Failure> {
    let registry = discox::connect(config)?;
    if is_watch {
        return watch::follow(registry.discover_services("")?, Subject::Services, output, false).await;
    }
    let names = registry.services("").await;
    registry.close().await;
    print_names(&names?, output).map_err(|error| Failure::output(error.kind()))?;
    Ok(0)
}
