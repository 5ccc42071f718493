package emit

import (
	"fmt"
	"strconv"
)

// Kueue is a deployment's admission by Kueue (kueue.x-k8s.io/v1beta2): a Topology of the labels in Levels, the widest first, a
// ResourceFlavor of the nodes that Serving's NodeSelector names, a ClusterQueue with a quota of as many accelerators as the
// plans use, and the LocalQueue that Serving.Queue names. Levels usually end with kubernetes.io/hostname; none means that
// Kueue counts accelerators and does not place pods.
func (s Serving) Kueue(levels ...string) ([]byte, error) {
	err := s.check()
	var bad problems
	if s.Queue == "" {
		bad.add("Serving.Queue", quoted(s.Queue), "must name a LocalQueue")
	}
	for i, l := range levels {
		bad.key(fmt.Sprintf("levels[%d]", i), l)
	}
	if err != nil {
		bad = append(bad, err)
	}
	if err := bad.err(); err != nil {
		return nil, err
	}
	quota := map[string]int{}
	for _, p := range s.Plans {
		name, _ := resource(p.Deployment.System.Accelerator)
		quota[name] += p.Accelerators()
	}
	var covered, resources list
	for _, name := range sortedKeys(quota) {
		covered = append(covered, name)
		resources = append(resources, object{{"name", name}, {"nominalQuota", strconv.Itoa(quota[name])}})
	}
	head := func(kind, name, namespace string) object {
		metadata := object{{"name", name}}
		metadata.put("namespace", namespace)
		return object{{"apiVersion", "kueue.x-k8s.io/v1beta2"}, {"kind", kind}, {"metadata", metadata}}
	}
	var out []object
	var flavor, selector object
	for _, k := range sortedKeys(s.NodeSelector) {
		selector.put(k, s.NodeSelector[k])
	}
	flavor.put("nodeLabels", selector)
	if len(levels) > 0 {
		var l list
		for _, label := range levels {
			l = append(l, object{{"nodeLabel", label}})
		}
		out = append(out, append(head("Topology", s.Name, ""), field{"spec", object{{"levels", l}}}))
		flavor.put("topologyName", s.Name)
	}
	out = append(out,
		append(head("ResourceFlavor", s.Name, ""), field{"spec", flavor}),
		append(head("ClusterQueue", s.Name, ""), field{"spec", object{
			{"namespaceSelector", object{}},
			{"resourceGroups", list{object{
				{"coveredResources", covered},
				{"flavors", list{object{{"name", s.Name}, {"resources", resources}}}},
			}}},
		}}),
		append(head("LocalQueue", s.Queue, s.Namespace), field{"spec", object{{"clusterQueue", s.Name}}}))
	return documents(out...), nil
}
