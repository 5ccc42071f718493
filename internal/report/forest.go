package report

import "math"

// differencesView is Differences for the template: a row each, with its range drawn on a common scale.
type differencesView struct {
	*Differences
	Items []differenceItem
	None  string // where no difference is, in CSS
	Ticks []tick
}

type differenceItem struct {
	Difference
	First                    bool // of its group
	Estimate, Range, Verdict string
	Class                    string
	Drawn                    bool
	Point, From, Width       string // CSS
}

func (d *Differences) view() *differencesView {
	v := &differencesView{Differences: d}
	s := newScale(Axis{Format: d.Format, Log: d.Log})
	s.include(d.None)
	for _, r := range d.Rows {
		for _, at := range []float64{r.Interval.Estimate, r.Interval.Low, r.Interval.High} {
			if s.shows(at) {
				s.include(at)
			}
		}
	}
	// Room at both ends, for what is drawn there.
	if d.Log {
		room := math.Pow(s.high/s.low, 0.06)
		s.low, s.high = s.low/room, s.high*room
	} else {
		room := 0.06 * (s.high - s.low)
		s.low, s.high = s.low-room, s.high+room
	}
	about := 4
	if d.Log {
		about = 6
	}
	v.Ticks = s.finish(about)
	v.None = css(s.place(d.None))
	for i, r := range d.Rows {
		verdict := d.Verdict(r)
		item := differenceItem{
			Difference: r, First: i == 0 || d.Rows[i-1].Group != r.Group,
			Estimate: d.Format(r.Interval.Estimate), Range: Between(r.Interval, d.Format), Verdict: verdict,
			Class: map[string]string{"better": "better", "worse": "worse"}[verdict],
			Drawn: s.shows(r.Interval.Estimate),
		}
		if item.Drawn {
			item.Point = css(s.place(r.Interval.Estimate))
		}
		if r.Interval.Known() && s.shows(r.Interval.Low) && s.shows(r.Interval.High) {
			from := s.place(r.Interval.Low)
			item.From, item.Width = css(from), css(s.place(r.Interval.High)-from)
		}
		v.Items = append(v.Items, item)
	}
	return v
}
