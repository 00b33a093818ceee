//! What holds for every rule: nothing flaps, and nothing is said that is not so.
