//! The gRPC service of `tonic_shop`, made without `protoc`: its messages are written by hand.

fn main() {
    #[cfg(feature = "tonic")]
    orders();
}

#[cfg(feature = "tonic")]
fn orders() {
    use tonic_build::manual::{Builder, Method, Service};

    let get = Method::builder()
        .name("get")
        .route_name("Get")
        .input_type("crate::GetOrder")
        .output_type("crate::Order")
        .codec_path("tonic_prost::ProstCodec")
        .build();
    Builder::new().compile(&[Service::builder().name("Orders").package("shop").method(get).build()]);
}
