//! Which names a mistyped one is like.

use super::TOPICS;

/// No more than these are suggested.
const MOST: usize = 3;

/// Names of topics that are like this word, the nearest first: by their own name or by another word for them.
pub(super) fn names(word: &str) -> Vec<&'static str> {
    let mut found: Vec<(usize, &'static str)> = TOPICS
        .iter()
        .filter_map(|topic| {
            let words = std::iter::once(topic.name).chain(topic.others.iter().copied());
            let nearest = words.filter_map(|other| likeness(word, other)).min()?;
            Some((nearest, topic.name))
        })
        .collect();
    found.sort();
    found.into_iter().take(MOST).map(|(_, name)| name).collect()
}

/// How far two words are apart; `None` if they have nothing in common.
fn likeness(word: &str, other: &str) -> Option<usize> {
    // Longer words than any name are compared with nothing: the table would be as long.
    if word.len() > 40 {
        return None;
    }
    if word.len() >= 3 && other.contains(word) || other.len() >= 4 && word.contains(other) {
        return Some(0);
    }
    let distance = distance(word, other);
    (distance <= 1 + word.len().min(other.len()) / 4).then_some(distance)
}

/// Letters that have to be put in, taken out or changed to make one of the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (above, letter) in one.chars().enumerate() {
        let mut next = vec![above + 1];
        for ((pair, other), left) in row.windows(2).zip(&other).zip(0..) {
            let [diagonal, up] = pair else { continue };
            let changed = diagonal + usize::from(letter != *other);
            let left: usize = next.get(left).copied().unwrap_or(usize::MAX - 1);
            next.push(changed.min(up + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_counted() {
        let pairs = [("", ""), ("a", ""), ("close", "closed"), ("time_wiat", "time_wait"), ("abc", "xyz")];
        assert_eq!(pairs.map(|(one, other)| distance(one, other)), [0, 1, 1, 2, 3]);
    }
}
