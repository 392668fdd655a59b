//! Bounds on what one HTTP connection may cost, and the hyper builders that carry them.
//!
//! hyper's and h2's own defaults are meant for a server on a friendly network; each limit is set here explicitly, so
//! that an upgrade of either cannot change them silently.

use std::time::Duration;

use hyper::{client, server};

use super::exec::{HeadClock, LocalExec, PlainTimer};

/// Bytes of one message's head. Envoy's default is 60 KiB. (The number of headers is bounded by hyper at 100: setting
/// that limit, even to the same number, would make it allocate for every message.)
pub(crate) const HEAD_BYTES_MAX: usize = 60 * 1024;
/// Read and write buffer of one HTTP/1 connection, in bytes. Also the largest piece of a body that is held at once.
pub(crate) const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Time for a request's head, from its first byte.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Time that a client's HTTP/1 connection may stay without a request.
pub(crate) const CLIENT_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// HTTP/2 streams at once that one peer may open.
pub(crate) const STREAMS_MAX: u32 = 256;
/// Bytes that a peer may send on one stream before we take them.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// Bytes that a peer may send on one connection before we take them. More than one stream's, or a single stalled
/// stream would stop the others.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// Payload of one HTTP/2 frame.
const FRAME_BYTES_MAX: u32 = 16 * 1024;
/// Bytes per stream that wait to be sent.
const SEND_BUFFER_BYTES_MAX: usize = 256 * 1024;
/// Streams that a peer may open and reset before we took them (CVE-2023-44487).
const PENDING_RESETS_MAX: usize = 32;
/// Streams reset by our own errors that are remembered.
const LOCAL_RESETS_MAX: usize = 512;
/// Silence after which an HTTP/2 peer is asked whether it lives.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// Time for the answer.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// An HTTP/1 server with our limits. The clock is the connection's own.
pub(crate) fn http1_server(clock: HeadClock) -> server::conn::http1::Builder {
    let mut builder = server::conn::http1::Builder::new();
    builder
        .timer(clock)
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        // A client that closes its half has given up: what it asked for is given up as well.
        .half_close(false)
        .auto_date_header(false)
        .preserve_header_case(true);
    builder
}

/// An HTTP/2 server with our limits.
pub(crate) fn http2_server() -> server::conn::http2::Builder<LocalExec> {
    let mut builder = server::conn::http2::Builder::new(LocalExec);
    builder
        .timer(PlainTimer)
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(LOCAL_RESETS_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .auto_date_header(false);
    builder
}

/// An HTTP/1 client with our limits.
pub(crate) fn http1_client() -> client::conn::http1::Builder {
    let mut builder = client::conn::http1::Builder::new();
    builder.max_header_size(HEAD_BYTES_MAX).max_buf_size(BUFFER_BYTES_MAX).preserve_header_case(true);
    builder
}

/// An HTTP/2 client with our limits.
pub(crate) fn http2_client() -> client::conn::http2::Builder<LocalExec> {
    let mut builder = client::conn::http2::Builder::new(LocalExec);
    builder
        .timer(PlainTimer)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(LOCAL_RESETS_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}
