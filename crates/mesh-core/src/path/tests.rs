//! The table of traps 5.1, in every mode, and the laws of normalization.

use proptest::prelude::*;

use super::*;
use PathNormalization::{Base, DecodeAndMergeSlashes, MergeSlashes, None as Off};

fn ok(path: &str, mode: PathNormalization) -> String {
    normalize(path, mode).unwrap_or_else(|error| panic!("{path}: {error}")).into_owned()
}

#[test]
fn every_mode_gives_the_form_that_istio_gives() {
    // Path, BASE, MERGE_SLASHES, DECODE_AND_MERGE_SLASHES.
    for (path, base, merge, decode) in [
        ("/app/../admin", "/admin", "/admin", "/admin"),
        ("/app//", "/app//", "/app/", "/app/"),
        ("/app/%2f", "/app/%2f", "/app/%2f", "/app/"),
        ("/app%2Fadmin", "/app%2Fadmin", "/app%2Fadmin", "/app/admin"),
        ("/app%5cadmin", "/app%5cadmin", "/app%5cadmin", "/app/admin"),
        ("/xyz%30..//abc", "/xyz0..//abc", "/xyz0../abc", "/xyz0../abc"),
        ("/app/%2E./admin", "/admin", "/admin", "/admin"),
        ("/app/%2e%2E/admin", "/admin", "/admin", "/admin"),
        ("/app/%2E/admin", "/app/admin", "/app/admin", "/app/admin"),
        ("/app\\admin", "/app/admin", "/app/admin", "/app/admin"),
        ("/app/..\\admin", "/admin", "/admin", "/admin"),
        ("/app\\..\\admin", "/admin", "/admin", "/admin"),
        ("/app/%5c..%5cadmin", "/app/%5c..%5cadmin", "/app/%5c..%5cadmin", "/app/admin"),
        ("/app/..%2fadmin", "/app/..%2fadmin", "/app/..%2fadmin", "/admin"),
        ("/app/..%2Fadmin/x%41", "/app/..%2Fadmin/xA", "/app/..%2Fadmin/xA", "/admin/xA"),
        ("//app", "//app", "/app", "/app"),
        ("/", "/", "/", "/"),
        ("/.", "/", "/", "/"),
        ("/..", "/", "/", "/"),
        ("/../../etc", "/etc", "/etc", "/etc"),
        ("/a/b/..", "/a/", "/a/", "/a/"),
        ("/a/./b/.", "/a/b/", "/a/b/", "/a/b/"),
        ("/a//../b", "/a/b", "/a/b", "/a/b"),
        ("/%7Euser/%2D%5F", "/~user/-_", "/~user/-_", "/~user/-_"),
        // A `%` that escapes nothing stays, and hides nothing behind it.
        ("/100%", "/100%", "/100%", "/100%"),
        ("/%%32e%%32e/admin", "/%%32e%%32e/admin", "/%%32e%%32e/admin", "/%%32e%%32e/admin"),
        ("/%2%65/x", "/%2%65/x", "/%2%65/x", "/%2%65/x"),
    ] {
        assert_eq!(ok(path, Off), path);
        assert_eq!(ok(path, Base), base, "BASE {path}");
        assert_eq!(ok(path, MergeSlashes), merge, "MERGE_SLASHES {path}");
        assert_eq!(ok(path, DecodeAndMergeSlashes), decode, "DECODE_AND_MERGE_SLASHES {path}");
    }
}

#[test]
fn other_paths_stay_other_paths_in_every_mode() {
    for path in [
        "/0x2e0x2e/admin",
        "/%252e%252e/admin",
        "/%252E%252E%252fadmin",
        "/%c0%ae%c0%ae/admin",
        "/..;/admin",
        "/;/admin",
        "/admin;a=b",
        "/admin,a=b",
        "/...",
        "/.../admin",
        "/Admin",
        "/ADMIN",
        "/a..b/..c/d..",
    ] {
        for mode in [Off, Base, MergeSlashes, DecodeAndMergeSlashes] {
            assert_eq!(ok(path, mode), path, "{mode:?}");
        }
    }
}

#[test]
fn of_all_escapes_only_the_unreserved_are_decoded() {
    for byte in 1..=255_u8 {
        let path = format!("/x%{byte:02x}y");
        let unreserved = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        let decoded = format!("/x{}y", char::from(byte));
        assert_eq!(ok(&path, Base), if unreserved { decoded.as_str() } else { path.as_str() });
        let slash = matches!(byte, b'/' | b'\\');
        let last = ok(&path, DecodeAndMergeSlashes);
        assert_eq!(
            last,
            if slash {
                "/x/y"
            } else if unreserved {
                decoded.as_str()
            } else {
                path.as_str()
            }
        );
    }
}

#[test]
fn what_can_only_deceive_is_refused() {
    for mode in [Off, Base, MergeSlashes, DecodeAndMergeSlashes] {
        assert_eq!(normalize("/a%00b", mode), Err(PathError::Nul));
        assert_eq!(normalize("/a\0b", mode), Err(PathError::Nul));
        assert_eq!(normalize("/admin#x", mode), Err(PathError::Fragment));
        assert_eq!(normalize("admin", mode), Err(PathError::Relative));
        assert_eq!(normalize("*", mode).unwrap(), "*");
        assert_eq!(normalize("", mode).unwrap(), "");
    }
}

#[test]
fn the_common_case_borrows() {
    for path in ["/", "/productpage", "/api/v1/products/0/reviews", "/pkg.Service/Method", "/a.b/c..d"] {
        assert!(matches!(normalize(path, MergeSlashes), Ok(Cow::Borrowed(_))), "{path}");
    }
}

proptest! {
    #[test]
    fn once_is_enough(path in "/([ab./\\\\]|%2[eEfF5]|%5[cC]|%32|%65|%|%3[05]|;){0,14}") {
        for mode in [Off, Base, MergeSlashes, DecodeAndMergeSlashes] {
            let Ok(once) = normalize(&path, mode) else { continue };
            prop_assert_eq!(normalize(&once, mode).unwrap(), once.as_ref(), "{:?}", mode);
            prop_assert!(once.starts_with('/'));
            if mode != Off {
                prop_assert!(once.split('/').all(|segment| segment != "." && segment != ".."), "{:?} {}", mode, once);
            }
            if matches!(mode, MergeSlashes | DecodeAndMergeSlashes) {
                prop_assert!(!once.contains("//"));
            }
        }
    }
}
