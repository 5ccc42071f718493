package latency

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRestore(t *testing.T) {
	w := newWorld(t, 1, Options{})
	w.run(ttft, 700)
	w.run(tpot, 30)
	other := newWorld(t, 2, Options{})
	require.NoError(t, other.model.Restore(w.model.Snapshot()))
	require.Equal(t, string(w.model.Snapshot()), string(other.model.Snapshot()))
	v := w.load()
	w.model.places = newWorld(t, 1, Options{}).model.places // single endpoints are not in it
	want, got := w.predict(v, 9), other.predict(v, 9)
	require.InEpsilon(t, want.TTFT, got.TTFT, .001)
	require.InEpsilon(t, want.TPOT, got.TPOT, .001)
}

// What replicas have learned adds up, whatever the order and however often.
func TestMerge(t *testing.T) {
	a, b, c := newWorld(t, 1, Options{}), newWorld(t, 2, Options{}), newWorld(t, 3, Options{})
	a.run(ttft, 400)
	b.run(ttft, 400)
	v := c.load()
	fresh := c.predict(v, 0).TTFT
	require.NoError(t, c.model.Merge("a", b.model.Statistics()))
	require.NoError(t, c.model.Merge("b", b.model.Snapshot()))
	require.NoError(t, c.model.Merge("a", a.model.Statistics()))
	d := newWorld(t, 4, Options{})
	require.NoError(t, d.model.Merge("a", a.model.Statistics()))
	require.NoError(t, d.model.Merge("b", b.model.Statistics()))
	require.NoError(t, d.model.Merge("b", b.model.Statistics()))
	require.InEpsilon(t, c.predict(v, 0).TTFT, d.predict(v, 0).TTFT, .001)
	require.NotContains(t, string(a.model.Statistics()), "windows")

	medians := newWorld(t, 5, Options{Quantile: .5})
	require.NoError(t, medians.model.Merge("a", a.model.Statistics()))
	off, _ := medians.run(ttft, 50)
	require.Less(t, off, .25, "at once, without observations of its own")

	c.model.Forget("a")
	c.model.Forget("b")
	require.InEpsilon(t, fresh, c.predict(v, 0).TTFT, .001)
}

func TestSnapshotsAreChecked(t *testing.T) {
	w := newWorld(t, 1, Options{})
	w.run(ttft, 20)
	good := string(w.model.Snapshot())
	for _, row := range []struct{ name, old, new, want string }{
		{"no JSON", "^{", "", "restore: "},
		{"another version", `"version":1`, `"version":7`, "restore: version 7, want 1"},
		{"negative square", `{"XX":\[\[`, `{"XX":[[-`, "classes[0].times[0].moments: not those of observations"},
		{"infinite prior", `"prior":\[`, `"prior":[1e300,`, "classes[0].times[0].prior[0] 1e+300: want seconds above 0"},
		{"a level that cannot be", `"miss":\[`, `"miss":[7,`, "classes[0].times[0].miss[0] 7: want 0.00"},
		{"an absurd ratio", `"windows":\[\[[^,]*`, `"windows":[[500`, "classes[0].times[0].windows[0]: log ratio 500 is out of range"},
		{"bias", `"bias":{"Value":[^,]*`, `"bias":{"Value":9`, "classes[0].times[0].bias {9"},
	} {
		t.Run(row.name, func(t *testing.T) {
			bad := good
			if at := regexp.MustCompile(row.old).FindStringIndex(good); at != nil {
				bad = good[:at[0]] + row.new + good[at[1]:]
			}
			require.NotEqual(t, good, bad)
			require.ErrorContains(t, w.model.Restore([]byte(bad)), row.want)
			require.Equal(t, good, string(w.model.Snapshot()), "nothing changed")
		})
	}
	require.ErrorContains(t, w.model.Restore(w.model.Statistics()), "windows[0]: 0 values")
	require.ErrorContains(t, w.model.Merge("x", []byte("{")), `merge replica "x": `)
}

func TestClassesAreBounded(t *testing.T) {
	w := newWorld(t, 1, Options{MaxClasses: 1})
	other := newWorld(t, 1, Options{Class: nil})
	require.NoError(t, other.model.Restore([]byte(strings.Replace(string(w.model.Snapshot()), `"m|0|"`, `"other"`, 1))))
	require.NoError(t, w.model.Restore(other.model.Snapshot()))
	require.Len(t, *w.model.classes.Load(), 1)
	require.Len(t, *other.model.classes.Load(), 2)
}

// Whatever is restored or merged is refused or leaves predictions finite and positive.
func FuzzRestore(f *testing.F) {
	w := newWorld(f, 1, Options{})
	w.run(ttft, 30)
	f.Add(w.model.Snapshot())
	f.Add(w.model.Statistics())
	f.Add([]byte(`{"version":1,"classes":[{"name":"m|0|"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		w := newWorld(t, 1, Options{})
		restored := w.model.Restore(data) == nil
		if err := w.model.Merge("r", data); restored {
			require.NoError(t, err)
		}
		for range 5 {
			p := w.predict(w.load(), 1)
			require.True(t, p.TTFT > 0 && p.TTFT < 1e300 && p.TPOT > 0 && p.TPOT < 1e300, "%+v", p)
			w.observe(ttft, p)
			w.observe(tpot, p)
		}
		require.NoError(t, newWorld(t, 1, Options{}).model.Restore(w.model.Snapshot()))
	})
}
