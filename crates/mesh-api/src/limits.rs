//! Bounds of the wire, in one place: both sides set them explicitly (tonic's default of 4 MiB is not relied upon).

/// A response is cut before it would exceed this many bytes; only a single larger resource travels alone in more.
pub const RESPONSE_BYTES_CUT: usize = 1024 * 1024;

/// The largest encoded resource, in bytes. The control plane reports a larger one instead of sending it.
pub const RESOURCE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Decode limit of a response at the proxy, in bytes: the largest resource and what surrounds it.
pub const RESPONSE_BYTES_MAX: usize = RESOURCE_BYTES_MAX + 64 * 1024;

/// Decode limit of a request at the control plane, in bytes. The longest is the first of the endpoint type after a
/// reconnection, which lists every endpoint that the proxy holds (about 150 bytes each).
pub const REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Decode limit of a certificate request or its answer, in bytes.
pub const CERTIFICATE_MESSAGE_BYTES_MAX: usize = 128 * 1024;

/// Keys (`address/…`, `host/…`) that a proxy may hold, absences included.
pub const KEYS_MAX: usize = 8_192;

/// Names that one stream may subscribe to, of all types: the keys, what they lead to, and slack.
pub const SUBSCRIPTIONS_MAX: usize = 4 * KEYS_MAX;

/// Longest resource name, in bytes.
pub const NAME_BYTES_MAX: usize = 1024;

/// Longest text in a resource (a regular expression, a header's value), in bytes.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Longest direct response body, in bytes.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Most items of one list or map in a resource.
pub const ITEMS_MAX: usize = 16_384;

/// Most prefixes in which mesh addresses can lie.
pub const MESH_PREFIXES_MAX: usize = 256;

/// Most rejections in one NACK that are read.
pub const REJECTIONS_MAX: usize = 256;
