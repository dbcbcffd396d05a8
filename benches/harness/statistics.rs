//! Medians, and what is around them.

/// The middle of some numbers, and between what it lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) lower: f64,
    pub(crate) median: f64,
    pub(crate) upper: f64,
}

impl Spread {
    /// Between the quartiles. `None` of no numbers.
    pub(crate) fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let numbers = sorted(numbers);
        let at = |part: f64| quantile(&numbers, part);
        Some(Spread { lower: at(0.25)?, median: at(0.5)?, upper: at(0.75)? })
    }

    /// Between the limits of its 95 % confidence interval, if the numbers do not depend on each other.
    pub(crate) fn of_median(numbers: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let numbers = sorted(numbers);
        let count = numbers.len();
        // How many are below the true median has a binomial distribution, nearly a normal one.
        let below = (count as f64 / 2.0 - 0.98 * (count as f64).sqrt()).max(0.0) as usize;
        let (lower, upper) = (*numbers.get(below)?, numbers[count - 1 - below]);
        Some(Spread { lower, median: quantile(&numbers, 0.5)?, upper })
    }
}

fn sorted(numbers: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    numbers
}

/// Interpolates between the two nearest of the sorted numbers.
fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let place = part * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(below + (above - below) * place.fract())
}
