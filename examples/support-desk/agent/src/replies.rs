//! What to answer, by the words of a ticket.

/// Words of which one must be there, and the answer. The first that fits is taken.
const REPLIES: &[(&[&str], &str)] = &[
    (&["refund", "charged twice"], "the refund is on its way; banks take up to five working days."),
    (&["new address"], "the new address stands on your invoices from the next one on."),
    (&["vat number"], "we correct the VAT number and send the invoice again today."),
    (&["card expired"], "please enter the new card under Settings, Payment; we try again tomorrow."),
    (&["yearly", "by the year"], "yes, two months are free, and what you paid for March counts."),
    (&["plan"], "the plan Office has room for five companies; one subscription is enough."),
    (&["cancel"], "the subscription ends with the month; you can export your books for a year."),
    (&["invoice"], "we look at the invoice and come back to you within a day."),
];

/// The answer to everything else.
const OTHERWISE: &str = "thank you, a colleague reads this and answers within a day.";

/// Returns an answer to a ticket.
pub fn to(text: &str) -> &'static str {
    let text = text.to_lowercase();
    let fitting = REPLIES.iter().find(|(words, _)| words.iter().any(|word| text.contains(word)));
    fitting.map_or(OTHERWISE, |(_, reply)| reply)
}
