//! Conditions on texts, hosts and headers, and the names that resources share.

use super::{enumeration, message, sum};

message!(Origin { kind, namespace, name, generation });
message!(ServiceName { namespace, host });
sum!(StringMatch in string_match { Exact, Prefix, Regex; Present });
message!(HeaderMatch { name, value, invert });
message!(QueryMatch { name, value });
sum!(HostPattern in host_pattern { Suffix, Exact; Any });
message!(AccessLog { file, format });
enumeration!(AccessLogFormat { Text, Json });
enumeration!(Protocol { Unspecified, Http, Http2, Grpc, Tcp, Tls, Udp });
