//! What the checks of an instance add up to.

use crate::model::Check;

/// The aggregated status, as Consul's own tools show it. The better, the greater.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Status {
    /// A check fails, of the service or of its node, or says something unknown.
    Critical,
    /// An operator has put the service or its node into maintenance.
    Maintenance,
    /// A check warns, none fails.
    Warning,
    /// All checks pass, or there are none.
    Passing,
}

impl Status {
    /// Of all checks of an instance and its node.
    pub(crate) fn of(checks: &[Check]) -> Self {
        if checks.iter().any(|check| is_maintenance(&check.id)) {
            return Self::Maintenance;
        }
        let status = |check: &Check| match check.status.as_str() {
            "passing" => Self::Passing,
            "warning" => Self::Warning,
            _ => Self::Critical,
        };
        checks.iter().map(status).min().unwrap_or(Self::Passing)
    }
}

/// Whether this is the check that stands for a maintenance.
pub(crate) fn is_maintenance(id: &str) -> bool {
    id == "_node_maintenance" || id.starts_with("_service_maintenance:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_check_decides_and_maintenance_before_all() {
        let of = |checks: &[(&str, &str)]| {
            let check = |(id, status): &(&str, &str)| Check { id: (*id).into(), status: (*status).into() };
            Status::of(&checks.iter().map(check).collect::<Vec<_>>())
        };
        assert_eq!(of(&[]), Status::Passing);
        assert_eq!(of(&[("serfHealth", "passing"), ("a", "warning")]), Status::Warning);
        assert_eq!(of(&[("serfHealth", "critical"), ("a", "passing")]), Status::Critical);
        assert_eq!(of(&[("a", "passing"), ("b", "")]), Status::Critical);
        assert_eq!(of(&[("a", "critical"), ("_service_maintenance:x", "critical")]), Status::Maintenance);
        assert_eq!(of(&[("a", "passing"), ("_node_maintenance", "critical")]), Status::Maintenance);
    }
}
