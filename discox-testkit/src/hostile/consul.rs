//! A Consul agent that means no good. Probes are answered, so that the connection counts as good.

use std::{fmt::Write, io};

use async_trait::async_trait;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::{
    bytes::{Noise, without_end},
    server::Script,
};

/// What it answers to everything but a probe.
#[derive(Clone, Debug)]
pub(super) enum Mischief {
    /// An array of instances without end.
    EndlessInstances,
    /// One instance that does not end.
    EndlessInstance,
    /// More instances than anybody has, and that is all.
    Instances(usize),
    /// A body that is far longer than it could be, by its length.
    Length(u64),
    /// Headers without end.
    EndlessHeaders,
    /// One header without end.
    EndlessHeader,
    /// JSON in JSON in JSON.
    Deep(usize),
    /// The same in a member of an instance that nobody reads.
    DeepInside(usize),
    /// JSON, but not what Consul says.
    Other(&'static str),
    /// Ask there.
    Redirect(u16, String),
    /// A good beginning, and then byte by byte.
    Slow,
    /// An error that is explained without end, and commands the terminal.
    EndlessError,
}

#[async_trait]
impl Script for Mischief {
    async fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        let path = request(&mut stream).await?;
        if path.starts_with("/v1/status/leader") {
            return answer(&mut stream, "200 OK", "\"127.0.0.1:8300\"").await;
        }
        const CHUNKED: &str = "HTTP/1.1 200 OK\r\nX-Consul-Index: 7\r\nTransfer-Encoding: chunked\r\n\r\n";
        match self {
            Self::EndlessInstances => {
                stream.write_all(CHUNKED.as_bytes()).await?;
                stream.write_all(&chunk("[")).await?;
                without_end(&mut stream, &chunk(&instance(0, ",").repeat(500))).await
            }
            Self::EndlessInstance => {
                stream.write_all(CHUNKED.as_bytes()).await?;
                stream.write_all(&chunk("[{\"Service\":{\"Meta\":{\"a\":\"")).await?;
                without_end(&mut stream, &chunk(&"x".repeat(16)).repeat(1_000)).await
            }
            Self::Instances(count) => {
                stream.write_all(CHUNKED.as_bytes()).await?;
                stream.write_all(&chunk("[")).await?;
                for number in 0..*count {
                    stream.write_all(&chunk(&instance(number, ","))).await?;
                }
                stream.write_all(&chunk(&instance(*count, "]"))).await?;
                stream.write_all(&chunk("")).await?;
                stream.flush().await
            }
            Self::Length(bytes) => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n");
                stream.write_all(head.as_bytes()).await?;
                without_end(&mut stream, &[b' '; 64 * 1024]).await
            }
            Self::EndlessHeaders => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
                without_end(&mut stream, &b"X-More: and more\r\n".repeat(1_000)).await
            }
            Self::EndlessHeader => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nX-More: ").await?;
                without_end(&mut stream, &[b'x'; 64 * 1024]).await
            }
            Self::Deep(levels) => answer(&mut stream, "200 OK", &"[{\"a\":".repeat(*levels)).await,
            Self::DeepInside(levels) => {
                let deep = "[".repeat(*levels);
                answer(&mut stream, "200 OK", &format!("[{{\"Node\":{{}},\"Service\":{{\"Proxy\":{deep}"))
                    .await
            }
            Self::Other(json) => answer(&mut stream, "200 OK", json).await,
            Self::Redirect(status, elsewhere) => {
                let head = format!("{status} There\r\nLocation: http://{elsewhere}{path}");
                answer(&mut stream, &head, "").await
            }
            Self::Slow => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").await?;
                Noise::Dripping(b' ').serve(stream.into_inner()).await
            }
            Self::EndlessError => {
                stream.write_all(b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
                without_end(&mut stream, &chunk(&"\x1b[2J rpc error: \n".repeat(1_000))).await
            }
        }
    }
}

/// Reads a request and returns its path.
async fn request(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let (mut path, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if path.is_empty() {
            path = line.split(' ').nth(1).unwrap_or("/").to_owned();
        } else if let Some(bytes) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = bytes.trim().parse().unwrap_or(0);
        } else if line.trim().is_empty() {
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await?;
            return Ok(path);
        }
    }
}

async fn answer(stream: &mut BufReader<TcpStream>, head: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    let answer = format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

fn chunk(text: &str) -> Vec<u8> {
    let mut chunk = String::new();
    let _ = write!(chunk, "{:x}\r\n{text}\r\n", text.len());
    chunk.into_bytes()
}

fn instance(number: usize, then: &str) -> String {
    let host = format!("10.{}.{}.{}", number >> 16, number >> 8 & 255, number & 255);
    let service =
        format!(r#"{{"ID":"{number}","Service":"demo","Address":"{host}","Port":80,"Meta":{{"":""}}}}"#);
    format!(r#"{{"Node":{{}},"Service":{service},"Checks":[]}}{then}"#)
}
