//! Deployments: which pods to start and which to end, as a pure function.
//!
//! A change of the template replaces pods without ever having fewer available ones than wanted (maxUnavailable 0), with
//! the surge that the Deployment allows.

/// A pod of a Deployment, as far as the decision needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) uid: String,
    /// It was made from the present template.
    pub(crate) current: bool,
    pub(crate) available: bool,
    /// It has ended by itself, or is on its way out.
    pub(crate) gone: bool,
}

/// What to do now; the rest follows when pods have become available or have ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Steps {
    pub(crate) start: usize,
    pub(crate) end: Vec<String>,
}

/// Decides the next steps towards `replicas` pods of the present template.
pub(crate) fn steps(members: &[Member], replicas: usize, surge: usize, recreate: bool) -> Steps {
    let living: Vec<&Member> = members.iter().filter(|m| !m.gone).collect();
    let (new, old): (Vec<&Member>, Vec<&Member>) = living.iter().partition(|m| m.current);
    let mut steps = Steps::default();
    if recreate && !old.is_empty() {
        steps.end = old.iter().map(|m| m.uid.clone()).collect();
        return steps;
    }
    if recreate && new.is_empty() && members.iter().any(|m| m.gone && !m.current) {
        return steps; // the old ones must be gone before the first new one starts
    }
    // Surplus of the present template: those that are not available first.
    let mut surplus: Vec<&Member> = new.clone();
    surplus.sort_by_key(|m| m.available);
    let too_many = new.len().saturating_sub(replicas);
    steps.end.extend(surplus.iter().take(too_many).map(|m| m.uid.clone()));

    let room = (replicas + if old.is_empty() { 0 } else { surge.max(1) }).saturating_sub(living.len() - too_many);
    steps.start = replicas.saturating_sub(new.len()).min(room);

    // Old pods that serve nobody go at once; the others as new ones have become available.
    let new_available = new.iter().filter(|m| m.available).count();
    let old_available = old.iter().filter(|m| m.available).count();
    let mut spare = (new_available + old_available).saturating_sub(replicas);
    for member in old {
        if !member.available {
            // A surge of one new pod must not be starved by an old one that never becomes available.
            steps.end.push(member.uid.clone());
        } else if spare > 0 {
            spare -= 1;
            steps.end.push(member.uid.clone());
        }
    }
    steps
}

/// `maxSurge` (a number or a percentage, rounded up), as a number of pods.
pub(crate) fn surge(value: &serde_json::Value, replicas: usize) -> usize {
    let percent = match value.as_str().and_then(|s| s.strip_suffix('%')) {
        Some(text) => text.parse::<usize>().unwrap_or(25),
        None => match value.as_u64() {
            Some(number) => return usize::try_from(number).unwrap_or(usize::MAX),
            None => 25,
        },
    };
    (replicas.saturating_mul(percent)).div_ceil(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(text: &str) -> Member {
        // "n+" is a new available pod, "o-" an old one that is not, "o!" an old one that is ending.
        let mut chars = text.chars();
        let (age, state) = (chars.next().unwrap(), chars.next().unwrap());
        Member { uid: text.into(), current: age == 'n', available: state == '+', gone: state == '!' }
    }

    fn check(members: &str, replicas: usize, start: usize, end: &[&str]) {
        let members: Vec<_> = members.split_whitespace().map(member).collect();
        let steps = steps(&members, replicas, 1, false);
        assert_eq!((steps.start, steps.end), (start, end.iter().map(|s| (*s).to_owned()).collect()), "{members:?}");
    }

    #[test]
    fn scaling() {
        check("", 2, 2, &[]);
        check("n+1 n-2 n+3", 1, 0, &["n-2", "n+1"]);
        check("n+1 n!2", 2, 1, &[]);
        check("n+", 0, 0, &["n+"]);
    }

    #[test]
    fn a_rollout_never_has_too_few() {
        check("o+1 o+2", 2, 1, &[]);
        check("o+1 o+2 n-", 2, 0, &[]);
        check("o+1 o+2 n+", 2, 0, &["o+1"]);
        check("o+2 n+ o!1", 2, 1, &[]);
        check("o+2 n+1 n+2", 2, 0, &["o+2"]);
        check("o-1 o-2", 2, 1, &["o-1", "o-2"]);
    }

    #[test]
    fn recreate_ends_the_old_ones_first() {
        let all = |text: &str| text.split_whitespace().map(member).collect::<Vec<_>>();
        assert_eq!(steps(&all("o+"), 1, 1, true), Steps { start: 0, end: vec!["o+".into()] });
        assert_eq!(steps(&all("o!"), 1, 1, true), Steps::default());
        assert_eq!(steps(&all(""), 1, 1, true).start, 1);
    }

    #[test]
    fn surge_rounds_up() {
        assert_eq!(surge(&"25%".into(), 2), 1);
        assert_eq!(surge(&serde_json::Value::Null, 8), 2);
        assert_eq!(surge(&3.into(), 8), 3);
    }
}
