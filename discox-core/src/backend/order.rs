//! Named records are listed in the order of their writes.

/// A list in the order of its writes: the revision, or whatever grows with each write, of each. Without them the list
/// stays as it is.
pub fn oldest_first<T>(list: Vec<T>, writes: &[i64]) -> Vec<T> {
    if writes.len() != list.len() {
        return list;
    }
    let mut list: Vec<_> = writes.iter().zip(list).collect();
    list.sort_by_key(|(written, _)| **written);
    list.into_iter().map(|(_, item)| item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_comes_first_and_without_writes_nothing_moves() {
        assert_eq!(oldest_first(vec!["b", "c", "a"], &[2, 3, 1]), ["a", "b", "c"]);
        assert_eq!(oldest_first(vec!["b", "a"], &[]), ["b", "a"]);
    }
}
