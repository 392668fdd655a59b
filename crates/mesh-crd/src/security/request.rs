//! RequestAuthentication: which tokens are valid.

use std::time::Duration;

use super::peer::{PolicyTargetReference, WorkloadSelector};

message! {
    /// Which tokens are valid.
    struct RequestAuthentication {
        selector: Option<WorkloadSelector> => "Which workloads; absent means the namespace (root namespace: the mesh).",
        target_ref: Option<PolicyTargetReference> => "Deprecated: what it is attached to instead.",
        target_refs: Vec<PolicyTargetReference> => "What it is attached to instead.",
        jwt_rules: Vec<JwtRule> => "The issuers.",
    }
}

message! {
    /// An issuer and where its tokens are found.
    struct JwtRule {
        issuer: String => "The `iss` claim.",
        audiences: Vec<String> => "Accepted `aud` claims.",
        jwks_uri: String => "Where its keys are.",
        jwks: String => "Its keys, written here.",
        from_headers: Vec<JwtHeader> => "Headers that carry tokens.",
        from_params: Vec<String> => "Query parameters that carry tokens.",
        from_cookies: Vec<String> => "Cookies that carry tokens.",
        output_payload_to_header: String => "Where the payload is put.",
        forward_original_token: bool => "Whether the token is passed on.",
        output_claim_to_headers: Vec<ClaimToHeader> => "Where claims are put.",
        timeout: Option<Duration> => "For fetching keys.",
        space_delimited_claims: Vec<String> => "Claims that are lists separated by spaces.",
    }
}

message! {
    /// A header that carries a token.
    struct JwtHeader {
        name: String => "Its name.",
        prefix: String => "What stands before the token.",
    }
}

message! {
    /// Where a claim is put.
    struct ClaimToHeader {
        header: String => "The header.",
        claim: String => "The claim.",
    }
}
