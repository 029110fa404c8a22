//! The table of all faults: what is promised, where it is played, where it cannot be and why.

macro_rules! fault {
    ($file:ident::$function:ident, $settings:expr, $promise:literal) => {
        Fault::new(stringify!($function), $promise, $settings, |stage| Box::pin($file::$function(stage)))
    };
}

mod clients;
mod servers;

use std::time::Duration;

use super::cell::{Cell, Fault, Settings, Topology};
use crate::server::Kind;

/// With discox's default times.
fn by_default(settings: Settings) -> Settings {
    Settings {
        heart_beat: Duration::from_secs(5),
        ttl: Duration::from_secs(15),
        grace: Duration::from_secs(15),
        detection: Duration::from_secs(15),
        ..settings
    }
}

const BOTH: &[Topology] = &[Topology::Single, Topology::Cluster];
const CLUSTER: &[Topology] = &[Topology::Cluster];

/// All of them.
pub fn faults() -> Vec<Fault> {
    [
        servers::killed(),
        servers::hung(),
        servers::network(),
        clients::by_hand(),
        clients::history(),
        clients::clients(),
        servers::clusters(),
        clients::grace(),
        clients::resources(),
    ]
    .concat()
}

/// All cells, and those that cannot be with the reason.
pub(crate) fn cells() -> (Vec<Cell>, Vec<(Cell, &'static str)>) {
    let (mut cells, mut left_out) = (Vec::new(), Vec::new());
    for fault in faults() {
        for topology in fault.on.iter().copied() {
            for kind in Kind::ALL {
                let cell = Cell { fault: fault.clone(), topology, kind };
                match cell.why_not() {
                    Some(why) => left_out.push((cell, why)),
                    None => cells.push(cell),
                }
            }
        }
    }
    (cells, left_out)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_selections_exist() {
        let names: Vec<_> = faults().iter().map(|fault| fault.name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        let (cells, _) = cells();
        for fault in faults() {
            let of_fault: Vec<_> = cells.iter().filter(|cell| cell.fault.name == fault.name).collect();
            let short = of_fault.iter().filter(|cell| cell.is_short()).count();
            assert_eq!(short, fault.short.len(), "{}", fault.name);
        }
    }
}
