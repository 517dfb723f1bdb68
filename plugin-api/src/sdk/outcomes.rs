//! What becomes of the messages of a batch, gathered in whatever order it is learnt.

use std::ops::Range;

use crate::abi::Outcome;

/// The outcomes of a batch, one for each message. The first that is learnt of a message counts.
#[derive(Debug)]
pub struct Outcomes {
    /// Empty until something is learnt: where nothing goes wrong, often all is learnt at once.
    known: Vec<Option<Outcome>>,
    count: usize,
    open: usize,
}

impl Outcomes {
    /// For a batch of `count` messages, of which nothing is known.
    pub fn new(count: usize) -> Outcomes {
        Outcomes { known: Vec::new(), count, open: count }
    }

    /// Notes what became of a message, unless that is known already or there is no such message.
    pub fn settle(&mut self, index: usize, outcome: Outcome) {
        if self.known.is_empty() {
            self.known.resize(self.count, None);
        }
        if let Some(entry @ None) = self.known.get_mut(index) {
            *entry = Some(outcome);
            self.open -= 1;
        }
    }

    /// Whether it is known what became of a message.
    pub fn is_settled(&self, index: usize) -> bool {
        self.known.get(index).is_some_and(Option::is_some)
    }

    /// Notes the same of several messages.
    pub fn settle_range(&mut self, range: Range<usize>, outcome: &Outcome) {
        range.for_each(|index| self.settle(index, outcome.clone()));
    }

    /// All outcomes, in the order of the messages, once every one is known. They are given away only once; what is settled
    /// after that counts for nothing.
    pub fn complete(&mut self) -> Option<Vec<Outcome>> {
        (self.open == 0).then(|| {
            self.count = 0;
            std::mem::take(&mut self.known).into_iter().flatten().collect()
        })
    }

    /// All outcomes, in the order of the messages. `otherwise` is asked for those that are not known, by their index.
    pub fn finish(self, mut otherwise: impl FnMut(usize) -> Outcome) -> Vec<Outcome> {
        if self.known.is_empty() {
            return (0..self.count).map(otherwise).collect();
        }
        let known = self.known.into_iter().enumerate();
        known.map(|(index, outcome)| outcome.unwrap_or_else(|| otherwise(index))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_learnt_of_a_message_counts() {
        let mut outcomes = Outcomes::new(3);
        assert!(outcomes.complete().is_none() && !outcomes.is_settled(1));
        outcomes.settle(1, Outcome::refused("first"));
        outcomes.settle(1, Outcome::refused("second"));
        outcomes.settle(3, Outcome::refused("there is no such message"));
        assert!(outcomes.complete().is_none() && outcomes.is_settled(1) && !outcomes.is_settled(0));
        let reasons = |outcomes: Vec<Outcome>| -> Vec<String> {
            outcomes.iter().map(|outcome| outcome.reason().to_owned()).collect()
        };
        let unknown = |index: usize| Outcome::unconfirmed(format!("of {index}"));
        assert_eq!(reasons(outcomes.finish(unknown)), ["of 0", "first", "of 2"]);
        assert_eq!(reasons(Outcomes::new(2).finish(unknown)), ["of 0", "of 1"]);
        assert!(Outcomes::new(0).finish(unknown).is_empty());
    }

    #[test]
    fn they_are_complete_with_the_last() {
        let mut outcomes = Outcomes::new(3);
        outcomes.settle(2, Outcome::refused("last"));
        assert!(outcomes.complete().is_none());
        outcomes.settle_range(0..3, &Outcome::sent());
        let all = outcomes.complete().expect("all are known");
        assert_eq!(all.iter().map(Outcome::is_success).collect::<Vec<_>>(), [true, true, false]);
        outcomes.settle(0, Outcome::sent());
        assert!(outcomes.complete().is_some_and(|none| none.is_empty()), "they are given away");
        assert!(Outcomes::new(0).complete().is_some_and(|none| none.is_empty()));
    }
}
