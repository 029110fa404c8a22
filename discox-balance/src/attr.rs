//! What a balancer reads from an attr, once a change.

use std::sync::Arc;

/// Weights are counted in thousandths, so that their sums are exact.
pub(crate) const UNIT: u32 = 1_000;

/// More than this would be no weight but a mistake; sums of 10,000 of them fit.
const HEAVIEST: f64 = 1_000_000.0;

/// What an attr says to a balancer: the members `weight` and `zone` of a JSON object.
///
/// ```
/// use discox_balance::Traits;
///
/// let traits = Traits::parse(br#"{"weight": 2.5, "zone": "b"}"#);
/// assert_eq!((traits.weight(), traits.zone()), (2.5, Some("b")));
/// let traits = Traits::parse(b"no JSON at all");
/// assert_eq!((traits.weight(), traits.zone()), (1.0, None));
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Traits {
    pub(crate) weight: u32,
    pub(crate) zone: Option<Arc<str>>,
}

impl Traits {
    /// Reads an attr. A weight that is missing, negative or no number is 1; 0 stays 0.
    pub fn parse(attr: &[u8]) -> Self {
        let value: serde_json::Value = serde_json::from_slice(attr).unwrap_or_default();
        let weight = value.get("weight").and_then(serde_json::Value::as_f64).unwrap_or(1.0);
        let zone = value.get("zone").and_then(serde_json::Value::as_str).map(Arc::from);
        Self { weight: in_units(weight), zone }
    }

    /// The share of requests, relative to that of the others.
    pub fn weight(&self) -> f64 {
        f64::from(self.weight) / f64::from(UNIT)
    }

    /// Where the endpoint runs, if it says so.
    pub fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }
}

/// A weight in thousandths. What is greater than 0 stays so; what is no weight is 1.
pub(crate) fn in_units(weight: f64) -> u32 {
    if weight == 0.0 {
        0
    } else if weight > 0.0 {
        ((weight.min(HEAVIEST) * f64::from(UNIT)).round() as u32).max(1)
    } else {
        UNIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read_with_care() {
        for (attr, weight) in [
            (&b"{}"[..], 1.0),
            (b"", 1.0),
            (br#"{"weight":0}"#, 0.0),
            (br#"{"weight":3}"#, 3.0),
            (br#"{"weight":0.0001}"#, 0.001),
            (br#"{"weight":-2}"#, 1.0),
            (br#"{"weight":"7"}"#, 1.0),
            (br#"{"weight":1e300}"#, 1_000_000.0),
            (b"[1]", 1.0),
            (b"\xff\xfe", 1.0),
        ] {
            assert_eq!(Traits::parse(attr).weight(), weight, "{attr:?}");
        }
    }
}
