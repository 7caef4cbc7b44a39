//! YAML of nested mappings, read event by event: what is looked for is known beforehand, so nothing else is kept, aliases
//! are not followed, and depth costs nothing.

use std::collections::HashSet;

use granit_parser::{Event, Parser, ScalarStyle, StrInput};

use super::Kind;

/// How YAML writes a plain scalar that is nothing.
const NULLS: [&str; 5] = ["", "~", "null", "Null", "NULL"];

/// A key, and where it stands.
pub(super) struct Key {
    pub text: String,
    pub line: usize,
}

/// Something that is wrong with a value, which is passed over for it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct YamlFault {
    pub kind: Kind,
    pub line: usize,
    pub what: String,
}

/// A document from its first mapping on.
pub(super) struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    /// Of the last event.
    line: usize,
    faults: Vec<YamlFault>,
}

/// Reads a text of one document, which is a mapping: `entry` is called after each key and has to read its value. What
/// is wrong with single values comes back.
///
/// # Errors
/// What is no YAML, or no document of one mapping, and on which line.
pub(super) fn read_mapping<'a>(
    text: &'a str,
    entry: impl FnMut(&mut Reader<'a>, Key) -> Result<(), String>,
) -> Result<Vec<YamlFault>, String> {
    let mut reader = Reader { parser: Parser::new_from_str(text), line: 1, faults: Vec::new() };
    while matches!(
        reader.parser.peek(),
        Some(Ok((Event::StreamStart | Event::DocumentStart(..), _)))
    ) {
        reader.next()?;
    }
    if !matches!(reader.next()?, Event::MappingStart(..)) {
        return Err(reader.expected("a mapping"));
    }
    reader.entries(entry)?;
    loop {
        match reader.next()? {
            Event::DocumentEnd => {}
            Event::StreamEnd => return Ok(reader.faults),
            _ => return Err(reader.expected("the end of the file after its one document")),
        }
    }
}

impl<'a> Reader<'a> {
    /// Reads a mapping: `entry` is called after each key and has to read its value. Anything else is a fault and passed
    /// over, as are keys that occur twice or are no text. Says whether it was a mapping.
    ///
    /// # Errors
    /// What is no YAML.
    pub fn mapping(
        &mut self,
        entry: impl FnMut(&mut Reader<'a>, Key) -> Result<(), String>,
    ) -> Result<bool, String> {
        match self.next()? {
            Event::MappingStart(..) => self.entries(entry).map(|()| true),
            other => self.pass_over(&other, "a mapping").map(|()| false),
        }
    }

    /// The entries of a mapping that has begun, and its end.
    fn entries(
        &mut self,
        mut entry: impl FnMut(&mut Reader<'a>, Key) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut known = HashSet::new();
        loop {
            let text = match self.next()? {
                Event::MappingEnd => return Ok(()),
                Event::Scalar(text, ..) => text.into_owned(),
                other => {
                    self.pass_over(&other, "a key")?;
                    self.skip()?;
                    continue;
                }
            };
            let line = self.line;
            if known.insert(text.clone()) {
                entry(self, Key { text, line })?;
            } else {
                self.fault(Kind::RepeatedKey, line, format!("`{text}` occurs twice"));
                self.skip()?;
            }
        }
    }

    /// Reads a text; anything else is a fault.
    ///
    /// # Errors
    /// What is no YAML.
    pub fn text(&mut self) -> Result<Option<String>, String> {
        match self.next()? {
            Event::Scalar(text, style, ..) if !is_null(&text, style) => Ok(Some(text.into_owned())),
            other => self.pass_over(&other, "a text").map(|()| None),
        }
    }

    /// Reads one text, a list of texts, or nothing; anything else is a fault.
    ///
    /// # Errors
    /// What is no YAML.
    pub fn texts(&mut self) -> Result<Vec<String>, String> {
        let mut texts = Vec::new();
        match self.next()? {
            Event::Scalar(text, style, ..) if is_null(&text, style) => {}
            Event::Scalar(text, ..) => texts.push(text.into_owned()),
            Event::SequenceStart(..) => {
                while !matches!(self.parser.peek(), Some(Ok((Event::SequenceEnd, _)))) {
                    texts.extend(self.text()?);
                }
                self.next()?;
            }
            other => self.pass_over(&other, "a text or a list of texts")?,
        }
        Ok(texts)
    }

    /// Notes what is wrong with a value.
    pub fn fault(&mut self, kind: Kind, line: usize, what: String) {
        self.faults.push(YamlFault { kind, line, what });
    }

    /// Passes a value over, whatever it is.
    ///
    /// # Errors
    /// What is no YAML.
    pub fn skip(&mut self) -> Result<(), String> {
        let first = self.next()?;
        self.skip_rest(&first)
    }

    /// Notes that something else should be where a value has begun, and passes that over.
    fn pass_over(&mut self, begun: &Event, expected: &str) -> Result<(), String> {
        let line = self.line;
        self.fault(Kind::Layout, line, format!("{expected} should be here"));
        self.skip_rest(begun)
    }

    /// Passes over what is left of a value that has begun.
    fn skip_rest(&mut self, begun: &Event) -> Result<(), String> {
        let mut depth = usize::from(is_start(begun));
        if !is_start(begun) && !matches!(begun, Event::Scalar(..) | Event::Alias(..)) {
            // Nothing begins here: only the end of what is around it, which must not be lost.
            return Err(self.expected("a value"));
        }
        while depth > 0 {
            match self.next()? {
                ref event if is_start(event) => depth += 1,
                Event::MappingEnd | Event::SequenceEnd => depth -= 1,
                Event::StreamEnd => return Err(self.expected("the end of a list or mapping")),
                _ => {}
            }
        }
        Ok(())
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

fn is_start(event: &Event) -> bool {
    matches!(event, Event::MappingStart(..) | Event::SequenceStart(..))
}

fn is_null(text: &str, style: ScalarStyle) -> bool {
    style == ScalarStyle::Plain && NULLS.contains(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum of all numbers in mappings, and what was passed over.
    fn sum(text: &str) -> Result<(u64, Vec<YamlFault>), String> {
        let mut sum = 0;
        let faults = read_mapping(text, |reader, key| match key.text.as_str() {
            "skip" => reader.skip(),
            _ => {
                reader.mapping(|reader, _| {
                    for number in reader.texts()? {
                        sum += number.parse::<u64>().map_err(|error| error.to_string())?;
                    }
                    Ok(())
                })?;
                Ok(())
            }
        })?;
        Ok((sum, faults))
    }

    #[test]
    fn values_are_read_in_every_style_and_others_passed_over() {
        let text = "%YAML 1.2\n---\na: {x: 1, \"y\": '2'}\nskip: [a, {b: [c]}]\n? b\n:\n  z: 3 # three\n...\n";
        assert_eq!(sum(text), Ok((6, Vec::new())));
        assert_eq!(sum("{}"), Ok((0, Vec::new())));
        assert_eq!(sum("a: {x: [1, '2'], y: null, z: ~, u: }"), Ok((3, Vec::new())));
    }

    #[test]
    fn a_file_that_is_no_yaml_is_refused_with_the_line() {
        for (text, said) in [
            ("", "a mapping should be here"),
            ("- a\n- b", "line 1: a mapping should be here"),
            ("a: {x: 1}\n---\nb: {x: 1}", "line 2: the end of the file"),
            ("a: [", "line 1: "),
            ("a: {x: [", "line 1: "),
            ("skip: [[[", "line 1: "),
            ("a: {x: 1", "line 1: "),
            ("a: *nowhere", "line 1: "),
        ] {
            let error = sum(text).unwrap_err();
            assert!(error.contains(said), "{text:?}: {error}");
        }
    }

    #[test]
    fn reading_goes_on_after_a_wrong_value() {
        for (text, kind, line, said) in [
            ("a:\n  x: 1\n  x: {y: [2]}", Kind::RepeatedKey, 3, "`x` occurs twice"),
            ("a:\n  x: 1\na:\n  x: 2", Kind::RepeatedKey, 3, "`a` occurs twice"),
            (
                "a:\n  x: {y: 2}\n  z: 1",
                Kind::Layout,
                2,
                "a text or a list of texts should be here",
            ),
            ("a:\n  x: [1, [2, {y: 3}]]", Kind::Layout, 2, "a text should be here"),
            ("a:\n  x: [1, null]", Kind::Layout, 2, "a text should be here"),
            ("a:\n  [x, {y: z}]: {u: 2}\n  v: 1", Kind::Layout, 2, "a key should be here"),
            ("a: &here {x: 1}\nb: *here", Kind::Layout, 2, "a mapping should be here"),
            ("b: [[2]]\na: {x: 1}", Kind::Layout, 1, "a mapping should be here"),
        ] {
            let fault = YamlFault { kind, line, what: said.into() };
            let text = format!("{text}\nlast: {{x: 10}}\n");
            assert_eq!(sum(&text), Ok((11, vec![fault])), "{text:?}");
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
