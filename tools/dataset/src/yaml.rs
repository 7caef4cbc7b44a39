//! YAML of nested mappings, read event by event: what is looked for is known beforehand, so nothing else is kept, aliases
//! are not followed, and depth costs nothing.

use std::collections::HashSet;

use granit_parser::{Event, Parser, StrInput};

/// A key, and where it stands.
pub(super) struct Key {
    pub text: String,
    pub line: usize,
}

/// A document from its first mapping on.
pub(super) struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    /// Of the last event.
    line: usize,
}

/// Reads a text of one document, which is a mapping: `entry` is called after each key and has to read its value.
///
/// # Errors
/// What is wrong and on which line; what `entry` says.
pub(super) fn read_mapping<'a>(
    text: &'a str,
    entry: impl FnMut(&mut Reader<'a>, Key) -> Result<(), String>,
) -> Result<(), String> {
    let mut reader = Reader { parser: Parser::new_from_str(text), line: 1 };
    while matches!(
        reader.parser.peek(),
        Some(Ok((Event::StreamStart | Event::DocumentStart(..), _)))
    ) {
        reader.next()?;
    }
    reader.mapping(entry)?;
    loop {
        match reader.next()? {
            Event::DocumentEnd => {}
            Event::StreamEnd => return Ok(()),
            _ => return Err(reader.expected("the end of the file after its one document")),
        }
    }
}

impl<'a> Reader<'a> {
    /// Reads a mapping: `entry` is called after each key and has to read its value.
    ///
    /// # Errors
    /// Anything but a mapping, keys that occur twice or are no text; what `entry` says.
    pub fn mapping(
        &mut self,
        mut entry: impl FnMut(&mut Reader<'a>, Key) -> Result<(), String>,
    ) -> Result<(), String> {
        if !matches!(self.next()?, Event::MappingStart(..)) {
            return Err(self.expected("a mapping"));
        }
        let mut known = HashSet::new();
        loop {
            let text = match self.next()? {
                Event::MappingEnd => return Ok(()),
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(self.expected("a key")),
            };
            let line = self.line;
            if !known.insert(text.clone()) {
                return Err(format!("line {line}: `{text}` occurs twice"));
            }
            entry(self, Key { text, line })?;
        }
    }

    /// Reads a text.
    ///
    /// # Errors
    /// Anything else.
    pub fn text(&mut self) -> Result<String, String> {
        match self.next()? {
            Event::Scalar(text, ..) => Ok(text.into_owned()),
            _ => Err(self.expected("a text")),
        }
    }

    /// Passes a value over, whatever it is.
    ///
    /// # Errors
    /// What is no YAML.
    pub fn skip(&mut self) -> Result<(), String> {
        let mut depth = 0;
        loop {
            match self.next()? {
                Event::MappingStart(..) | Event::SequenceStart(..) => depth += 1,
                Event::MappingEnd | Event::SequenceEnd => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    fn next(&mut self) -> Result<Event<'a>, String> {
        let (event, span) = match self.parser.next_event() {
            Some(event) => event
                .map_err(|error| format!("line {}: {}", error.marker().line(), error.info()))?,
            None => return Ok(Event::StreamEnd),
        };
        self.line = span.start.line();
        Ok(event)
    }

    fn expected(&self, what: &str) -> String {
        format!("line {}: {what} should be here", self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(text: &str) -> Result<u64, String> {
        let mut sum = 0;
        read_mapping(text, |reader, key| match key.text.as_str() {
            "skip" => reader.skip(),
            _ => reader.mapping(|reader, _| {
                let number = reader.text()?;
                sum += number.parse::<u64>().map_err(|error| error.to_string())?;
                Ok(())
            }),
        })?;
        Ok(sum)
    }

    #[test]
    fn values_are_read_in_every_style_and_others_passed_over() {
        let text = "%YAML 1.2\n---\na: {x: 1, \"y\": '2'}\nskip: [a, {b: [c]}]\n? b\n:\n  z: 3 # three\n...\n";
        assert_eq!(sum(text), Ok(6));
        assert_eq!(sum("{}"), Ok(0));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, said) in [
            ("", "a mapping should be here"),
            ("- a\n- b", "line 1: a mapping should be here"),
            ("a:\n  x: 1\n  x: 2", "line 3: `x` occurs twice"),
            ("a:\n  x: [1]", "line 2: a text should be here"),
            ("a:\n  [x]: 1", "line 2: a key should be here"),
            ("a: &here {x: 1}\nb: *here", "line 2: a mapping should be here"),
            ("a: {x: 1}\n---\nb: {x: 1}", "line 2: the end of the file"),
            ("a: [", "line 1: "),
            ("skip: [[[", "line 1: "),
            ("a: {x: 1", "line 1: "),
            ("a: *nowhere", "line 1: "),
        ] {
            let error = sum(text).unwrap_err();
            assert!(error.contains(said), "{text:?}: {error}");
        }
    }

    #[test]
    fn depth_costs_nothing() {
        let depth = 20_000;
        let nested = format!("skip: {}{}", "[".repeat(depth), "]".repeat(depth));
        // Read or refused, but not with the stack's end.
        let _ = sum(&nested);
    }
}
