//! Host names: how short names are completed, and which pattern is the most specific for a name.

/// The host that a configuration of `namespace` means: a name without a dot belongs to that namespace; `*`, names
/// with dots and addresses stay as they are. Lower case, no trailing dot.
pub(crate) fn expand(host: &str, namespace: &str, cluster_domain: &str) -> String {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    match host.as_str() {
        "" | "*" => host,
        dotted if dotted.contains(['.', ':']) => host,
        _ => format!("{host}.{namespace}.svc.{cluster_domain}"),
    }
}

/// The host of a Kubernetes Service.
pub(crate) fn service_host(name: &str, namespace: &str, cluster_domain: &str) -> String {
    format!("{name}.{namespace}.svc.{cluster_domain}")
}

/// Dots that a name can have which [`candidates`] completes.
pub(crate) const SHORT_DOTS_MAX: usize = 2;

/// The full names that an application of `namespace` can mean by `name`: itself, then completed as resolv.conf's
/// search list completes it.
pub(crate) fn candidates(name: &str, namespace: &str, cluster_domain: &str) -> Vec<String> {
    let mut names = vec![name.to_owned()];
    let dots = name.matches('.').count();
    if dots == 0 {
        names.push(service_host(name, namespace, cluster_domain));
    }
    if dots == 1 {
        names.push(format!("{name}.svc.{cluster_domain}"));
    }
    if dots == 2 && name.ends_with(".svc") {
        names.push(format!("{name}.{cluster_domain}"));
    }
    names
}

/// Whether `pattern` (exact, `*.suffix`, `*`) covers `name` (which may itself be a wildcard).
pub(crate) fn covers(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix('*') {
        None => pattern == name,
        Some("") => true,
        Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix) || name == pattern,
    }
}

/// The patterns that cover `name`, the most specific first: itself, `*.rest`, shorter rests, `*`.
pub(crate) fn patterns(name: &str) -> impl Iterator<Item = String> + '_ {
    let bare = name.strip_prefix("*.").unwrap_or(name);
    let wild = name.len() != bare.len();
    let from = if wild { Some(format!("*.{bare}")) } else { None };
    let suffixes = bare.match_indices('.').map(|(at, _)| format!("*{}", &bare[at..]));
    let exact = if wild { from } else { Some(name.to_owned()) };
    exact.into_iter().chain(suffixes).chain(std::iter::once("*".to_owned()))
}

/// The namespace in the host of a Kubernetes Service, or none for other hosts.
pub(crate) fn namespace_of<'h>(host: &'h str, cluster_domain: &str) -> Option<&'h str> {
    let (_, rest) = host.strip_suffix(cluster_domain)?.strip_suffix(".svc.")?.split_once('.')?;
    (!rest.contains('.')).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_belong_to_the_configurations_namespace() {
        let check = |host: &str, want: &str| assert_eq!(expand(host, "shop", "cluster.local"), want);
        check("reviews", "reviews.shop.svc.cluster.local");
        check("Reviews", "reviews.shop.svc.cluster.local");
        check("reviews.other", "reviews.other");
        check("example.com.", "example.com");
        check("*", "*");
        check("*.example.com", "*.example.com");
    }

    #[test]
    fn patterns_go_from_specific_to_wide() {
        assert_eq!(patterns("a.b.c").collect::<Vec<_>>(), ["a.b.c", "*.b.c", "*.c", "*"]);
        assert_eq!(patterns("*.b.c").collect::<Vec<_>>(), ["*.b.c", "*.c", "*"]);
        assert!(covers("*.b.c", "a.b.c") && covers("*.b.c", "x.a.b.c") && !covers("*.b.c", "b.c"));
        assert!(covers("*", "a") && covers("*.b.c", "*.b.c") && !covers("a.b.c", "*.b.c"));
    }

    #[test]
    fn a_services_host_names_its_namespace() {
        assert_eq!(namespace_of("reviews.shop.svc.cluster.local", "cluster.local"), Some("shop"));
        assert_eq!(namespace_of("pod.reviews.shop.svc.cluster.local", "cluster.local"), None);
        assert_eq!(namespace_of("example.com", "cluster.local"), None);
    }
}
