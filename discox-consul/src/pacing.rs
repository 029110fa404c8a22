//! Which blocking query comes next, and when: pure, by the answer to the last one.

use std::time::Duration;

/// Between the beginnings of two queries when changes come in quick succession: they are reported together.
const FLOOR: Duration = Duration::from_millis(100);
/// The floor doubles up to this while changes go on, and a watch begins with it: where all clients come back at once,
/// each change wakes all watches.
const BUSY_FLOOR: Duration = Duration::from_millis(400);
/// Doublings from the one to the other.
const BUSY: u32 = 2;
/// The floor is longer by this for each instance of a list, which costs time to send and to read.
const FLOOR_PER_INSTANCE: Duration = Duration::from_micros(50);
/// Between two queries when nothing has changed: with the jitter taken off, more than a second.
const QUIET: Duration = Duration::from_millis(1500);

/// Where a watch is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Position {
    /// The index of the last answer; 0 when Consul did not say.
    index: u64,
    /// Answers in succession that did not keep us waiting.
    busy: u32,
}

/// An answer, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) index: u64,
    pub(crate) instances: usize,
    /// From the query to its answer.
    pub(crate) took: Duration,
}

/// What follows from an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Next {
    /// The list has changed, or may have; the next query begins this much after the last one.
    Changed(Position, Duration),
    /// Nothing has changed.
    Unchanged(Position, Duration),
    /// The index went back: the registry has lost its state, or an earlier one was restored.
    WentBack,
}

impl Position {
    /// After the first list.
    pub(crate) fn first(index: u64) -> Self {
        Self { index, busy: BUSY }
    }

    /// The index of the last answer, behind which the next query waits; 0 is not held.
    pub(crate) fn index(self) -> u64 {
        self.index
    }
}

/// What to do after an answer.
pub(crate) fn next(last: Position, answer: Answered) -> Next {
    if answer.index < last.index {
        return Next::WentBack;
    }
    let is_unchanged = answer.index == last.index && answer.index != 0;
    let floor = floor(answer.instances, last.busy);
    let busy = if answer.took < floor { last.busy.saturating_add(1) } else { 0 };
    let position = Position { index: answer.index, busy };
    match is_unchanged {
        true => Next::Unchanged(position, QUIET.max(floor)),
        // Without an index nothing is held.
        false if answer.index == 0 => Next::Changed(position, QUIET.max(floor)),
        false => Next::Changed(position, floor),
    }
}

/// Between the beginnings of two queries for a list of this length, of which this many were answered at once.
fn floor(instances: usize, busy: u32) -> Duration {
    let quiet = FLOOR + FLOOR_PER_INSTANCE * u32::try_from(instances).unwrap_or(u32::MAX);
    let busy = FLOOR.saturating_mul(2_u32.saturating_pow(busy)).min(BUSY_FLOOR);
    quiet.max(busy)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Duration = Duration::ZERO;

    fn answered(index: u64) -> Answered {
        Answered { index, instances: 0, took: AT_ONCE }
    }

    #[test]
    fn the_floor_grows_with_the_list_and_while_changes_go_on() {
        let millis = |instances, busy| floor(instances, busy).as_millis();
        assert_eq!([0, 1, 2, 3, u32::MAX].map(|busy| millis(0, busy)), [100, 200, 400, 400, 400]);
        assert_eq!([0, 9].map(|busy| millis(10_000, busy)), [600, 600]);
    }

    #[test]
    fn an_index_goes_on_or_has_gone_back() {
        let at = Position::first;
        assert_eq!(next(at(141), answered(12)), Next::WentBack);
        assert_eq!(next(at(5), answered(0)), Next::WentBack);
        assert!(matches!(next(at(5), answered(9)), Next::Changed(position, _) if position.index == 9));
        assert!(matches!(next(at(0), answered(12)), Next::Changed(position, _) if position.index == 12));
        assert!(matches!(next(at(0), answered(0)), Next::Changed(_, QUIET)));
        assert!(matches!(next(at(5), answered(5)), Next::Unchanged(_, QUIET)));
    }
}
