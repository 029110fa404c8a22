//! The streams of the service, in each direction: what tonic would generate for them.

use std::{
    convert::Infallible,
    task::{Context, Poll},
    time::Duration,
};

use discox_tonic::Channel;
use futures_util::{Stream, StreamExt, stream};
use http::{Request, Response, uri::PathAndQuery};
use tokio::time::sleep;
use tonic::{
    Status, Streaming,
    body::Body,
    codegen::{Body as HttpBody, BoxFuture, Service, StdError},
    server::NamedService,
};
use tonic_health::pb::{HealthCheckRequest as Question, HealthCheckResponse as Answer};
use tonic_prost::ProstCodec;
use tower::service_fn;

/// Messages a stream, and the pause before each: it outlives what is done to its server meanwhile.
const MESSAGES: i32 = 10;
const PAUSE: Duration = Duration::from_millis(5);

/// Which side streams.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// One message in, some out.
    Server,
    /// Some in, one out.
    Client,
    /// Some in, each answered before the next.
    Both,
}

impl Direction {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Server, Self::Client, Self::Both];

    fn path(self) -> PathAndQuery {
        PathAndQuery::from_static(match self {
            Self::Server => "/shop.Streams/Server",
            Self::Client => "/shop.Streams/Client",
            Self::Both => "/shop.Streams/Both",
        })
    }
}

/// One call whose messages stream, each of them waited for.
///
/// # Errors
/// As the channel says; DATA_LOSS if messages are missing.
pub async fn stream(channel: &Channel, direction: Direction) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await?;
    let (codec, path) = (ProstCodec::<Question, Answer>::default(), direction.path());
    let questions = || tonic::Request::new(spaced().map(|_| Question::default()));
    let seen = match direction {
        Direction::Client => grpc.client_streaming(questions(), path, codec).await?.into_inner().status,
        Direction::Server => {
            let question = tonic::Request::new(Question::default());
            count(grpc.server_streaming(question, path, codec).await?.into_inner()).await?
        }
        Direction::Both => count(grpc.streaming(questions(), path, codec).await?.into_inner()).await?,
    };
    if seen == MESSAGES { Ok(()) } else { Err(Status::data_loss(format!("{seen} of {MESSAGES}"))) }
}

/// Numbers with pauses.
fn spaced() -> impl Stream<Item = i32> + Send + 'static {
    stream::iter(1..=MESSAGES).then(|i| async move {
        sleep(PAUSE).await;
        i
    })
}

async fn count<M>(mut messages: Streaming<M>) -> Result<i32, Status> {
    let mut count = 0;
    while messages.message().await?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// The server's side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Streams;

impl NamedService for Streams {
    const NAME: &'static str = "shop.Streams";
}

impl<B> Service<Request<B>> for Streams
where
    B: HttpBody + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let path = request.uri().path().to_owned();
        let mut grpc = tonic::server::Grpc::new(ProstCodec::<Answer, Question>::default());
        Box::pin(async move {
            let is = |direction: Direction| direction.path() == path.as_str();
            Ok(if is(Direction::Client) {
                grpc.client_streaming(service_fn(collect), request).await
            } else if is(Direction::Server) {
                grpc.server_streaming(service_fn(list), request).await
            } else if is(Direction::Both) {
                grpc.streaming(service_fn(echo), request).await
            } else {
                Status::unimplemented(path).into_http()
            })
        })
    }
}

type Answers = stream::BoxStream<'static, Result<Answer, Status>>;

async fn collect(questions: tonic::Request<Streaming<Question>>) -> Result<tonic::Response<Answer>, Status> {
    Ok(tonic::Response::new(Answer { status: count(questions.into_inner()).await? }))
}

async fn list(_: tonic::Request<Question>) -> Result<tonic::Response<Answers>, Status> {
    Ok(tonic::Response::new(spaced().map(|status| Ok(Answer { status })).boxed()))
}

async fn echo(questions: tonic::Request<Streaming<Question>>) -> Result<tonic::Response<Answers>, Status> {
    let answers = questions.into_inner().map(|question| question.map(|_| Answer::default()));
    Ok(tonic::Response::new(answers.boxed()))
}
