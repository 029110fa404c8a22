//! The public contract as users see it: the program of the documentation on the embedded backend, and
//! what may be relied on of the types.

use std::{fmt::Debug, sync::Arc, time::Duration};

use discox::{
    BackendType, ConnectionConfig, Discover, DiscoverConfig, EndpointCacher, Error, ErrorKind, LiteEndpoint,
    Register, RegisterConfig, Registry, RegistryConfig,
};

const BACKEND_ENDPOINTS: &str = "memory://public-contract";

/// The program of the documentation, but for the name of the backend and its address.
#[tokio::test]
async fn the_program_of_the_documentation_runs() -> anyhow::Result<()> {
    let backend_type: BackendType = "memory".parse()?;
    let register = discox::new_register(RegisterConfig {
        backend_type,
        backend_endpoints: vec![BACKEND_ENDPOINTS.into()],
        discover_prefix: "/discox/demo".into(),
        service_name: "demo".into(),
        service_endpoint: "127.0.0.1:8111".into(),
        attr: r#"{"weight":1}"#.into(),
        heart_beat_period: Duration::from_secs(5),
        ..Default::default()
    })?;
    register.start().await?;

    let discover = discox::new_discover(DiscoverConfig {
        backend_type,
        backend_endpoints: vec![BACKEND_ENDPOINTS.into()],
        discover_prefix: "/discox/demo".into(),
        service_name: "demo".into(),
        ..Default::default()
    })?;
    let endpoints = Arc::new(LiteEndpoint::new());
    let watching = tokio::spawn({
        let (discover, endpoints) = (discover.clone(), endpoints.clone());
        async move { discover.start(endpoints).await }
    });
    endpoints.ready().await;
    assert_eq!(endpoints.list(), ["127.0.0.1:8111"]);
    assert_eq!(endpoints.attr("127.0.0.1:8111").as_deref(), Some(&br#"{"weight":1}"#[..]));

    let mut changes = endpoints.changes();
    register.update_attr(r#"{"weight":2}"#).await?;
    let updated =
        changes.wait_for(|now| now.attr("127.0.0.1:8111").is_some_and(|attr| attr == r#"{"weight":2}"#));
    assert!(tokio::time::timeout(Duration::from_secs(5), updated).await?.is_some());
    register.stop().await?;
    let gone = changes.wait_for(|now| now.is_empty());
    assert!(tokio::time::timeout(Duration::from_secs(5), gone).await?.is_some());
    discover.stop().await;
    watching.await??;
    Ok(())
}

#[test]
fn the_traits_are_object_safe_and_their_objects_can_go_anywhere() {
    fn goes_anywhere<T: Send + Sync + 'static + ?Sized>() {}
    goes_anywhere::<dyn Register>();
    goes_anywhere::<dyn Discover>();
    goes_anywhere::<dyn Registry>();
    goes_anywhere::<dyn EndpointCacher>();
    goes_anywhere::<LiteEndpoint>();
    goes_anywhere::<Error>();
}

#[test]
fn errors_and_configurations_have_the_usual_traits() {
    fn usual<T: Clone + Debug>() {}
    fn configured<T: Clone + Debug + Default>() {}
    fn copied<T: Copy + std::str::FromStr + std::fmt::Display>() {}
    usual::<Error>();
    configured::<RegisterConfig>();
    configured::<DiscoverConfig>();
    configured::<RegistryConfig>();
    configured::<ConnectionConfig>();
    copied::<BackendType>();
}

/// Not a Tokio test: nothing here may need a runtime.
#[test]
fn handles_are_made_without_a_runtime() {
    let backend_type = BackendType::Memory;
    let register = RegisterConfig {
        backend_type,
        service_name: "demo".into(),
        service_endpoint: "127.0.0.1:8111".into(),
        ..Default::default()
    };
    let discover = DiscoverConfig { backend_type, service_name: "demo".into(), ..Default::default() };
    assert!(discox::new_register(register.clone()).is_ok());
    assert!(discox::new_discover(discover.clone()).is_ok());
    let registry = discox::connect(RegistryConfig { backend_type, ..Default::default() }).unwrap();
    assert!(registry.register(register).is_ok());
    assert!(registry.discover(discover).is_ok());
}

/// Every backend that is compiled in rejects this by itself, and one that is not is named: both before
/// any I/O.
#[test]
fn a_configuration_that_cannot_work_is_rejected_on_every_backend() {
    for backend_type in [BackendType::Etcd, BackendType::Zookeeper, BackendType::Consul, BackendType::Memory]
    {
        let register = RegisterConfig { backend_type, ..Default::default() };
        let error = discox::new_register(register).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        let discover = DiscoverConfig { backend_type, ..Default::default() };
        let error = discox::new_discover(discover).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    }
}

#[cfg(not(feature = "consul"))]
#[test]
fn a_backend_that_is_not_compiled_in_is_named_with_its_feature() {
    let config = RegistryConfig { backend_type: BackendType::Consul, ..Default::default() };
    let error = discox::connect(config).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(
        error.to_string(),
        "backend_type `consul`: not compiled in, build discox with the Cargo feature `consul`"
    );
}
