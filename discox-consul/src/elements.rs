//! Cuts a JSON array into its elements while it arrives.

use crate::client::Fault;

/// The rest of an array that has arrived in part.
#[derive(Debug, Default)]
pub(crate) struct Elements {
    /// What has arrived and is not cut yet: less than two elements.
    pending: Vec<u8>,
    place: Place,
    /// The element is looked at again when so much of it is there. That is twice as much each time, so that a long
    /// one which arrives in small pieces is not read as often as there are pieces.
    wanted: usize,
}

#[derive(Clone, Copy, Debug, Default)]
enum Place {
    #[default]
    BeforeArray,
    BeforeFirst,
    BeforeElement,
    BehindElement,
    BehindArray,
}

impl Elements {
    /// Takes the next piece of the array. `length_of` is given bytes that begin with an element, and whether they are
    /// the last ones, and says how long the element is: none when that is not all of it.
    ///
    /// # Errors
    /// It is no array, or what `length_of` says.
    pub(crate) fn take(
        &mut self,
        piece: &[u8],
        length_of: impl FnMut(&[u8], bool) -> Result<Option<usize>, Fault>,
    ) -> Result<(), Fault> {
        self.pending.extend_from_slice(piece);
        self.cut(false, length_of)
    }

    /// There is no further piece.
    ///
    /// # Errors
    /// As [`Elements::take`]; or the array has no end.
    pub(crate) fn finish(
        &mut self,
        length_of: impl FnMut(&[u8], bool) -> Result<Option<usize>, Fault>,
    ) -> Result<(), Fault> {
        self.cut(true, length_of)?;
        match self.place {
            Place::BehindArray => Ok(()),
            _ => Err(Fault::Malformed("the list has no end".into())),
        }
    }

    fn cut(
        &mut self,
        is_all: bool,
        mut length_of: impl FnMut(&[u8], bool) -> Result<Option<usize>, Fault>,
    ) -> Result<(), Fault> {
        let mut at = 0;
        while let Some(rest) = self.pending.get(at..)
            && let Some(first) = rest.first()
        {
            let (length, next) = match (self.place, first) {
                (place, b' ' | b'\n' | b'\r' | b'\t') => (1, place),
                (Place::BeforeArray, b'[') => (1, Place::BeforeFirst),
                (Place::BeforeFirst | Place::BehindElement, b']') => (1, Place::BehindArray),
                (Place::BehindElement, b',') => (1, Place::BeforeElement),
                (Place::BeforeFirst | Place::BeforeElement, _) if is_all || rest.len() >= self.wanted => {
                    match length_of(rest, is_all)? {
                        Some(length) => {
                            self.wanted = 0;
                            (length, Place::BehindElement)
                        }
                        None => {
                            self.wanted = rest.len() * 2;
                            break;
                        }
                    }
                }
                (Place::BeforeFirst | Place::BeforeElement, _) => break,
                _ => return Err(Fault::Malformed("it is no list".into())),
            };
            at += length;
            self.place = next;
        }
        self.pending.drain(..at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde::de::IgnoredAny;

    use super::*;

    /// The elements, however the array is cut into pieces; none where it is no array.
    fn elements(json: &str, piece: usize) -> Option<Vec<String>> {
        let (mut elements, mut found) = (Elements::default(), Vec::new());
        let mut length_of = |bytes: &[u8], is_all: bool| {
            let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<IgnoredAny>();
            match values.next() {
                Some(Ok(_)) => {
                    let length = values.byte_offset();
                    found.push(String::from_utf8(bytes[..length].to_vec()).unwrap());
                    Ok(Some(length))
                }
                Some(Err(error)) if error.is_eof() && !is_all => Ok(None),
                _ => Err(Fault::Malformed(String::new())),
            }
        };
        for piece in json.as_bytes().chunks(piece) {
            elements.take(piece, &mut length_of).ok()?;
        }
        elements.finish(&mut length_of).ok()?;
        Some(found)
    }

    #[test]
    fn an_array_is_cut_into_its_elements_however_it_arrives() {
        for piece in [1, 2, 3, 7, 1000] {
            let cut = |json| elements(json, piece);
            assert_eq!(cut("[]"), Some(vec![]));
            assert_eq!(cut(" [ \n]\t"), Some(vec![]));
            let two = vec![r#"{"a":["]",{}]}"#.to_owned(), r#"[",\"]"]"#.to_owned()];
            assert_eq!(cut(r#"[{"a":["]",{}]},[",\"]"]]"#), Some(two.clone()));
            assert_eq!(cut(" [\r\n{\"a\":[\"]\",{}]} , [\",\\\"]\"] ] "), Some(two));
            let broken =
                ["", " ", "[", "null", "{}", "[,]", "[{},]", "[{}", "[{},", "[{}{}]", "[{]", "[]]", "[] x"];
            for json in broken {
                assert_eq!(cut(json), None, "{json} in pieces of {piece}");
            }
        }
    }

    /// Each element is looked at a number of times that grows with the logarithm of its length.
    #[test]
    fn a_long_element_in_small_pieces_is_not_read_over_and_over() {
        let mut elements = Elements::default();
        let mut looked_at = 0;
        let mut length_of = |bytes: &[u8], is_all: bool| {
            looked_at += bytes.len();
            Ok(is_all.then_some(bytes.len()))
        };
        const LENGTH: usize = 1 << 20;
        elements.take(b"[", &mut length_of).unwrap();
        for _ in 0..LENGTH / 16 {
            elements.take(&[b'"'; 16], &mut length_of).unwrap();
        }
        assert!(elements.finish(&mut length_of).is_err());
        assert!(looked_at <= 3 * LENGTH + 16, "{looked_at}");
    }
}
