package emit

import (
	"fmt"

	"github.com/inferloom/inferloom/moe/plan"
)

// lws is what LeaderWorkerSet tells the pods of a group.
var lws = group{index: "LWS_WORKER_INDEX", leader: `"$LWS_LEADER_ADDRESS"`}

// LeaderWorkerSets is one LeaderWorkerSet (leaderworkerset.x-k8s.io/v1) a plan: a group of pods is an instance, a pod a
// node. A group is restarted as a whole, as ranks of one instance cannot go on without each other.
func (s Serving) LeaderWorkerSets() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	var out []object
	for _, p := range s.Plans {
		spec, err := s.leaderWorkerSpec(p)
		if err != nil {
			return nil, err
		}
		out = append(out, object{
			{"apiVersion", "leaderworkerset.x-k8s.io/v1"}, {"kind", "LeaderWorkerSet"},
			{"metadata", s.metadata(s.role(p), s.exclusive(p))},
			{"spec", spec},
		})
	}
	return documents(out...), nil
}

// DisaggregatedSet is one object (disaggregatedset.x-k8s.io/v1) for a plan for prefill and one for decode, which then are
// rolled out together.
func (s Serving) DisaggregatedSet() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	if len(s.Plans) < 2 {
		var bad problems
		bad.add("Serving.Plans", len(s.Plans), "must be two for a DisaggregatedSet: one for prefill, one for decode")
		return nil, bad.err()
	}
	var roles list
	for _, p := range s.Plans {
		spec, err := s.leaderWorkerSpec(p)
		if err != nil {
			return nil, err
		}
		role := object{{"name", p.Role.String()}}
		var metadata object
		metadata.put("annotations", s.exclusive(p))
		role.put("metadata", metadata)
		role.put("spec", spec)
		roles = append(roles, role)
	}
	return documents(object{
		{"apiVersion", "disaggregatedset.x-k8s.io/v1"}, {"kind", "DisaggregatedSet"},
		{"metadata", s.metadata(s.Name, nil)},
		{"spec", object{{"roles", roles}}},
	}), nil
}

func (s Serving) leaderWorkerSpec(p plan.Plan) (object, error) {
	metadata, spec, err := s.pod(p, lws)
	if err != nil {
		return nil, fmt.Errorf("plan for %v: %w", p.Role, err)
	}
	if s.Queue != "" && s.Topology != "" {
		metadata.put("annotations", object{{"kueue.x-k8s.io/podset-required-topology", s.Topology}})
	}
	return object{
		{"replicas", p.Replicas},
		{"leaderWorkerTemplate", object{
			{"size", p.Layout.Nodes},
			{"restartPolicy", "RecreateGroupOnPodRestart"},
			{"workerTemplate", object{{"metadata", metadata}, {"spec", spec}}},
		}},
	}, nil
}

// exclusive keeps the pods of a group in one domain. Kueue, where it admits the group, places it instead.
func (s Serving) exclusive(p plan.Plan) object {
	if s.Topology == "" || s.Queue != "" || p.Layout.Nodes == 1 {
		return nil
	}
	return object{{"leaderworkerset.sigs.k8s.io/exclusive-topology", s.Topology}}
}
