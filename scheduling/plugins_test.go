package scheduling_test

import (
	"context"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/filter"
	"github.com/inferloom/inferloom/scheduling/picker"
	"github.com/inferloom/inferloom/scheduling/scorer"
)

func TestParametersAreChecked(t *testing.T) {
	nan := math.NaN()
	for want, p := range map[string]scheduling.Profile{
		"filters[0] (filter.Role): phase 0x0":                               {Filters: []scheduling.Filter{filter.Role{}}},
		"filters[0] (filter.Overload): slack NaN":                           {Filters: []scheduling.Filter{filter.Overload{Slack: nan}}},
		`matchExpressions[0].operator "in"`:                                 {Filters: []scheduling.Filter{&filter.Labels{Expressions: []filter.Requirement{{Key: "k", Operator: "in"}}}}},
		"matchExpressions[0].key: empty\nmatchExpressions[0].values: empty": {Filters: []scheduling.Filter{&filter.Labels{Expressions: []filter.Requirement{{Operator: filter.In}}}}},
		"profile.scorers[0]: nil":                                           {Scorers: []scheduling.Weighted{{Scorer: (*scorer.WeightedLoad)(nil)}}},
		"scorers[0] (scorer.WeightedLoad(metric(99)))":                      {Scorers: []scheduling.Weighted{{Scorer: &scorer.WeightedLoad{Metric: 99}}}},
		"profile.filters[0]: nil":                                           {Filters: []scheduling.Filter{(*filter.Labels)(nil)}},
		"headerName: empty\nlabelKey: empty":                                {Filters: []scheduling.Filter{&filter.HeaderLabel{}}},
		"conditions: 0 of them":                                             {Filters: []scheduling.Filter{filter.Limits{}}},
		"conditions[0].metric: metric(77) is unknown":                       {Filters: []scheduling.Filter{filter.Limits{Conditions: []filter.Condition{{Metric: 77, Operator: filter.Equal}}}}},
		`conditions[0].operator "<" is unknown`:                             {Filters: []scheduling.Filter{filter.Limits{Conditions: []filter.Condition{{Operator: "<"}}}}},
		"conditions[0].value +Inf":                                          {Filters: []scheduling.Filter{filter.Limits{Conditions: []filter.Condition{{Operator: filter.Equal, Value: math.Inf(1)}}}}},
		"affinityThreshold 1.5":                                             {Filters: []scheduling.Filter{filter.PrefixAffinity{Threshold: 1.5}}},
		"cacheThreshold -1":                                                 {Filters: []scheduling.Filter{filter.CacheAware{Threshold: -1}}},
		"deviations NaN":                                                    {Filters: []scheduling.Filter{filter.BalancedPrefix{Deviations: nan}}},
		"minTokens -1":                                                      {Filters: []scheduling.Filter{filter.LongestPrefix{MinTokens: -1}}},
		"minAffinity: proximity(9)":                                         {Filters: []scheduling.Filter{&filter.Topology{Min: 9}}},
		"replicas 17":                                                       {Filters: []scheduling.Filter{filter.AdapterSpread{Replicas: 17}}},
		"requireRoles[0]: phase 0x40":                                       {Filters: []scheduling.Filter{&filter.Rollout{Label: "l", Require: []scheduling.Role{64}}}},
		`weight "most"`:                                                     {Filters: []scheduling.Filter{&filter.Rollout{Label: "l", Weight: "most"}}},
		"scorers[0] (scorer.Queue): halfAt -1":                              {Scorers: []scheduling.Weighted{{Scorer: scorer.Queue{HalfAt: -1}}}},
		"range 2 to 1":                                                      {Scorers: []scheduling.Weighted{{Scorer: scorer.Linear{Min: 2, Max: 1}}}},
		"range NaN to 0: not finite":                                        {Scorers: []scheduling.Weighted{{Scorer: scorer.Linear{Min: nan}}}},
		"metric: metric(99) is unknown":                                     {Scorers: []scheduling.Weighted{{Scorer: scorer.Linear{Metric: 99}}}},
		"matchLengthWeight 2":                                               {Scorers: []scheduling.Weighted{{Scorer: scorer.Prefix{LengthWeight: 2}}}},
		"maxBusyScore 3":                                                    {Scorers: []scheduling.Weighted{{Scorer: scorer.ActiveRequests{MaxBusy: 3}}}},
		"overlapScoreCredit -1":                                             {Scorers: []scheduling.Weighted{{Scorer: scorer.Dynamo{OverlapCredit: -1}}}},
		"bound 0.5":                                                         {Scorers: []scheduling.Weighted{{Scorer: scorer.Session{Bound: .5}}}},
		"label: empty":                                                      {Scorers: []scheduling.Weighted{{Scorer: &scorer.ContextLength{}}}},
		"capacity: standard -1":                                             {Scorers: []scheduling.Weighted{{Scorer: &scorer.WeightedLoad{Capacity: scorer.Capacity{Standard: -1}}}}},
		"terms: none":                                                       {Scorers: []scheduling.Weighted{{Scorer: scorer.Cost{}}}},
		"terms[0]: nil":                                                     {Scorers: []scheduling.Weighted{{Scorer: scorer.Cost{Terms: []scorer.Term{nil}}}}},
		"terms[0] (*scorer.TransferTime): bytesPerSecond.anywhere: 0": {Scorers: []scheduling.Weighted{{Scorer: scorer.Cost{Terms: []scorer.Term{&scorer.TransferTime{}}}}}},
		"terms[0] (scorer.AdapterTime): loadSeconds -1":               {Scorers: []scheduling.Weighted{{Scorer: scorer.Cost{Terms: []scorer.Term{scorer.AdapterTime{Load: -1}}}}}},
		"profile.picker (picker.Softmax): temperature NaN":            {Picker: picker.Softmax{Temperature: nan}},
	} {
		_, err := scheduling.New(newPool(t), scheduling.Options{Profile: p})
		require.ErrorContains(t, err, want)
	}
}

func TestPluginsAreTheirParameters(t *testing.T) {
	var limits filter.Limits
	require.NoError(t, json.Unmarshal([]byte(`{"conditions":[
		{"metric":"kv_usage","operator":"LessThan","value":0.9},
		{"metric":"in_flight_requests","operator":"LessThan","value":64},
		{"metric":"custom(3)","operator":"Equal","value":1}]}`), &limits))
	require.Equal(t, filter.Limits{Conditions: []filter.Condition{
		{Metric: scheduling.KVUsage, Operator: filter.LessThan, Value: .9},
		{Metric: scheduling.InFlightRequests, Operator: filter.LessThan, Value: 64},
		{Metric: scheduling.Custom(3), Operator: filter.Equal, Value: 1},
	}}, limits)
	text, err := json.Marshal(limits)
	require.NoError(t, err)
	require.JSONEq(t, `{"conditions":[{"metric":"kv_usage","operator":"LessThan","value":0.9},
		{"metric":"in_flight_requests","operator":"LessThan","value":64},{"metric":"custom(3)","operator":"Equal","value":1}]}`, string(text))
	require.ErrorContains(t, json.Unmarshal([]byte(`{"metric":"custom(8)"}`), &scorer.Linear{}), `metric "custom(8)" is unknown`)

	var topology filter.Topology
	require.NoError(t, json.Unmarshal([]byte(`{"minAffinity":"rack","labels":{"rackLabel":"r"}}`), &topology))
	require.Equal(t, scheduling.SameRack, topology.Min)
	require.Equal(t, "r", topology.Labels.Rack)
	require.ErrorContains(t, json.Unmarshal([]byte(`{"minAffinity":"shelf"}`), &topology), `proximity "shelf"`)
}

type columns func(c *scheduling.Cycle, slots []scheduling.Slot)

func (f columns) Score(c *scheduling.Cycle, slots []scheduling.Slot, _ []float64) { f(c, slots) }

func TestCountsReadLikeMetrics(t *testing.T) {
	pool := newPool(t, endpoints(3)...)
	filled := newScheduler(t, pool, scheduling.Profile{Filters: []scheduling.Filter{keep{"e1": true}}})
	prompt := scheduling.Prompt{Tokens: make([]uint32, 70)}
	first, err := filled.Pick(context.Background(), &scheduling.Request{Prompt: prompt})
	require.NoError(t, err)
	first.FirstToken()
	_, err = filled.Pick(context.Background(), &scheduling.Request{Prompt: prompt})
	require.NoError(t, err)
	seen := 0
	s := newScheduler(t, pool, scheduling.Profile{Scorers: []scheduling.Weighted{{Scorer: columns(func(c *scheduling.Cycle, slots []scheduling.Slot) {
		for m, want := range map[scheduling.Metric]float64{scheduling.InFlightRequests: 2, scheduling.InFlightPrefillTokens: 70, scheduling.InFlightKVTokens: 140} {
			for _, slot := range slots {
				got, ok := c.Metric(m).At(slot)
				require.True(t, ok)
				if slot == 1 {
					require.InDelta(t, want, got, 0, m)
				} else {
					require.Zero(t, got)
				}
				seen++
			}
		}
	})}}})
	for range 2 {
		d, err := s.Pick(context.Background(), &scheduling.Request{Prompt: prompt})
		require.NoError(t, err)
		d.Done()
	}
	require.Equal(t, 18, seen)
}

type learner struct{ chosen []scheduling.Slot }

func (*learner) Score(*scheduling.Cycle, []scheduling.Slot, []float64) {}
func (l *learner) Commit(_ *scheduling.Cycle, slot scheduling.Slot) {
	l.chosen = append(l.chosen, slot)
}

func TestEveryPluginCanLearn(t *testing.T) {
	l := &learner{}
	s := newScheduler(t, newPool(t, endpoints(2)...), scheduling.Profile{Scorers: []scheduling.Weighted{{Scorer: l}}})
	d, err := s.Pick(context.Background(), &scheduling.Request{})
	require.NoError(t, err)
	was := d.Slot()
	require.True(t, d.Next())
	require.Equal(t, []scheduling.Slot{was, d.Slot()}, l.chosen)
}

func TestSessionTokens(t *testing.T) {
	_, err := scheduling.NewSessionTokens([]byte("too short"))
	require.ErrorContains(t, err, "9 bytes")
	tokens, err := scheduling.NewSessionTokens([]byte("0123456789abcdef"))
	require.NoError(t, err)
	other, err := scheduling.NewSessionTokens([]byte("0123456789abcdeF"))
	require.NoError(t, err)
	now := time.Unix(1000, 0)
	token := tokens.Issue("vllm-0", "tenant", now.Add(time.Minute))
	id, err := tokens.Verify(token, "tenant", now.Add(59*time.Second))
	require.NoError(t, err)
	require.Equal(t, "vllm-0", id)

	refused := func(by *scheduling.SessionTokens, token, scope string, at time.Time, why string) {
		t.Helper()
		id, err := by.Verify(token, scope, at)
		require.ErrorIs(t, err, scheduling.ErrSessionToken)
		require.ErrorContains(t, err, why)
		require.Empty(t, id)
	}
	refused(tokens, token, "tenant", now.Add(time.Minute), "expired at 1970-01-01 00:17:40")
	refused(tokens, token, "other", now, "not signed")
	refused(other, token, "tenant", now, "not signed")
	refused(tokens, "", "tenant", now, "malformed")
	refused(tokens, "%", "tenant", now, "malformed")
	refused(tokens, token[:20], "tenant", now, "malformed")
	for i := range token { // whatever character changes
		changed := []byte(token)
		changed[i] ^= 1
		_, err := tokens.Verify(string(changed), "tenant", now)
		require.ErrorIs(t, err, scheduling.ErrSessionToken, "%d", i)
	}
	// The end of the ID cannot pass for the beginning of the scope.
	moved := tokens.Issue("vllm-", "0tenant", now.Add(time.Minute))
	require.False(t, strings.HasSuffix(moved, token[len(token)-20:]))
}

func FuzzSessionTokens(f *testing.F) {
	tokens, err := scheduling.NewSessionTokens([]byte("0123456789abcdef"))
	require.NoError(f, err)
	f.Add(tokens.Issue("vllm-0", "", time.Unix(1<<40, 0)), "x")
	f.Fuzz(func(t *testing.T, token, scope string) {
		if _, err := tokens.Verify(token, scope, time.Unix(0, 0)); err == nil && scope != "" {
			t.Fatal("made up a token")
		}
	})
}

func TestRolesAreWords(t *testing.T) {
	for text, want := range map[string]scheduling.Role{
		"all": 0, "both": scheduling.Prefill | scheduling.Decode, "decode": scheduling.Decode, "prefill-decode": scheduling.Prefill | scheduling.Decode,
		"encode-prefill-decode": scheduling.Encode | scheduling.Prefill | scheduling.Decode, "prefill-encode": scheduling.Prefill | scheduling.Encode,
	} {
		var role, again scheduling.Role
		require.NoError(t, role.UnmarshalText([]byte(text)))
		require.Equal(t, want, role, text)
		require.NoError(t, again.UnmarshalText([]byte(role.String())))
		require.Equal(t, want, again, text)
	}
	for _, text := range []string{"", "Decode", "decode-", "decode-decode", "decode,prefill"} {
		role := scheduling.Decode
		require.ErrorContains(t, role.UnmarshalText([]byte(text)), "joined by hyphens")
		require.Equal(t, scheduling.Decode, role)
	}
	require.Equal(t, "encode-0x40", (scheduling.Encode | 64).String())
	require.ErrorContains(t, scheduling.Options{Stages: []scheduling.Stage{{}}, MaxMetricAge: -1}.Validate(), "stages[0].name: empty")
}
