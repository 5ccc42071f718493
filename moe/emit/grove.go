package emit

import (
	"fmt"

	"github.com/inferloom/inferloom/moe/plan"
)

// grove is what Grove tells the pods of a clique: they find their leader, the first of them, by its host name.
var grove = group{index: "GROVE_PCLQ_POD_INDEX", leader: `"$GROVE_PCLQ_NAME-0.$GROVE_HEADLESS_SERVICE"`}

// PodCliqueSet is one object of Grove (grove.io/v1alpha1). Each plan is a clique, whose pods are the nodes of an instance and
// are scheduled all or none, in a scaling group of its own, whose replicas are the instances.
func (s Serving) PodCliqueSet() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	var cliques, groups list
	for _, p := range s.Plans {
		metadata, spec, err := s.pod(p, grove)
		if err != nil {
			return nil, fmt.Errorf("plan for %v: %w", p.Role, err)
		}
		name := "engine"
		if p.Role != plan.Both {
			name = p.Role.String()
		}
		clique := object{{"name", name}}
		clique = append(clique, metadata...)
		clique.put("spec", object{
			{"roleName", name}, {"podSpec", spec}, {"replicas", p.Layout.Nodes}, {"minAvailable", p.Layout.Nodes},
		})
		cliques = append(cliques, clique)
		scaling := object{{"name", name + "s"}, {"cliqueNames", list{name}}, {"replicas", p.Replicas}, {"minAvailable", 1}}
		if s.GroveDomain != "" {
			scaling.put("topologyConstraint", s.pack())
		}
		groups = append(groups, scaling)
	}
	return documents(object{
		{"apiVersion", "grove.io/v1alpha1"}, {"kind", "PodCliqueSet"},
		{"metadata", s.metadata(s.Name, nil)},
		{"spec", object{
			{"replicas", 1},
			{"template", object{
				{"headlessServiceConfig", object{{"publishNotReadyAddresses", true}}},
				{"cliques", cliques},
				{"podCliqueScalingGroups", groups},
			}},
		}},
	}), nil
}

// pack is the constraint in its newer form where a topology is named, else in the older one.
func (s Serving) pack() object {
	if s.GroveTopology == "" {
		return object{{"packDomain", s.GroveDomain}}
	}
	return object{{"topologyName", s.GroveTopology}, {"pack", object{{"required", s.GroveDomain}}}}
}
