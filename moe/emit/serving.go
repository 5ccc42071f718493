package emit

import (
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/inferloom/inferloom/accel"
	"github.com/inferloom/inferloom/moe/plan"
)

// Serving is a deployment on Kubernetes.
type Serving struct {
	Name      string // of its objects, at most 40 characters
	Namespace string // empty leaves it to whoever applies the objects
	Image     string // of the engine, for a container's image
	// Plans are of different roles: one for both, or one for prefill and one for decode.
	Plans   []plan.Plan
	Options Options // of the command line; Config and ExpertLocation are paths in the container
	// Labels and NodeSelector are put on pods. Pods always have llm-d.ai/model and llm-d.ai/role, by which routers find them.
	Labels       map[string]string
	NodeSelector map[string]string
	Env          map[string]string
	// Topology is the label of nodes that share a domain, such as a rack: the nodes of an instance are then of one domain.
	// Where the scale-up domain spans nodes (NVL72), it should be that domain's label.
	Topology string
	// GroveDomain is the level of a topology that holds an instance, such as "rack" or "block"; empty asks for nothing.
	// GroveTopology names the ClusterTopologyBinding that it is a level of. Groves up to 0.1.0-alpha.8 have one topology a cluster:
	// leave it empty. From 0.1.0-alpha.10 on it is needed.
	GroveTopology, GroveDomain string
	// ComputeDomain is a ResourceClaimTemplate for NVIDIA's IMEX channels, which instances across nodes of an NVL72 need.
	ComputeDomain string
	// Queue is the Kueue LocalQueue that admits it.
	Queue string
}

// accelerators is the resource that a pod asks for.
var accelerators = map[string]string{
	"nvidia": "nvidia.com/gpu",
	"amd":    "amd.com/gpu",
	"google": "google.com/tpu",
	"intel":  "gpu.intel.com/xe",
}

func resource(a accel.Accelerator) (string, bool) {
	if strings.HasPrefix(a.Name, "gaudi") {
		return "habana.ai/gaudi", true
	}
	r, ok := accelerators[a.Vendor]
	return r, ok
}

func (s Serving) check() error {
	var bad problems
	bad.name("Serving.Name", s.Name)
	if s.Namespace != "" {
		bad.name("Serving.Namespace", s.Namespace)
	}
	bad.word("Serving.Image", s.Image)
	bad.labels("Serving.Labels", s.Labels)
	bad.labels("Serving.NodeSelector", s.NodeSelector)
	for _, k := range sortedKeys(s.Env) {
		if !variable.MatchString(k) {
			bad.add("Serving.Env", quoted(k), "must be the name of a variable")
		}
		bad.text("Serving.Env["+k+"]", s.Env[k])
	}
	if s.Topology != "" {
		bad.key("Serving.Topology", s.Topology)
	}
	for _, f := range []struct{ name, value string }{
		{"GroveTopology", s.GroveTopology}, {"GroveDomain", s.GroveDomain}, {"ComputeDomain", s.ComputeDomain}, {"Queue", s.Queue},
	} {
		if f.value != "" {
			bad.name("Serving."+f.name, f.value)
		}
	}
	if len(s.Plans) == 0 {
		bad.add("Serving.Plans", 0, "must have one or more")
	}
	roles := map[plan.Role]bool{}
	for i, p := range s.Plans {
		field := fmt.Sprintf("Serving.Plans[%d]", i)
		if roles[p.Role] || p.Role > plan.Decode || p.Role == plan.Both && len(s.Plans) > 1 {
			bad.add(field+".Role", p.Role, "must be both for a single plan, else prefill or decode once each")
		}
		roles[p.Role] = true
		checkPlan(field, p, &bad)
		if _, ok := resource(p.Deployment.System.Accelerator); !ok {
			bad.add(field+".Deployment.System.Accelerator.Vendor", quoted(p.Deployment.System.Accelerator.Vendor), "must be nvidia, amd, google or intel")
		}
	}
	return bad.err()
}

// group is what the nodes of an instance know of each other: an orchestrator's variables.
type group struct {
	index  string // variable with the number of this node
	leader string // shell expression of the leader's address
}

// script is the shell command of any node of an instance.
func (s Serving) script(p plan.Plan, g group) (script, error) {
	var bad problems
	raw := func(text string) word { return word{text: text, raw: true} }
	words := command(p, place{
		index: func(times int) word {
			if times == 1 {
				return raw("$" + g.index)
			}
			return raw("$((" + g.index + " * " + strconv.Itoa(times) + "))")
		},
		leader:   raw(g.leader),
		follower: func(flag string) []word { return []word{raw("$([ $" + g.index + " = 0 ] || echo " + flag + ")")} },
	}, s.Options, &bad)
	if err := bad.err(); err != nil {
		return "", err
	}
	return script(flags(words).script()), nil
}

func (s Serving) role(p plan.Plan) string {
	if p.Role == plan.Both {
		return s.Name
	}
	return s.Name + "-" + p.Role.String()
}

func (s Serving) metadata(name string, annotations object) object {
	var m object
	m.put("name", name)
	m.put("namespace", s.Namespace)
	var labels object
	labels.put("kueue.x-k8s.io/queue-name", s.Queue)
	m.put("labels", labels)
	m.put("annotations", annotations)
	return m
}

// pod is the metadata and the spec of the pods of an instance, one a node.
func (s Serving) pod(p plan.Plan, g group) (metadata, spec object, err error) {
	run, err := s.script(p, g)
	if err != nil {
		return nil, nil, err
	}
	d := p.Deployment
	labels := object{{"llm-d.ai/inference-serving", "true"}, {"llm-d.ai/model", asLabel(d.Model.Name)}, {"llm-d.ai/role", p.Role.String()}}
	for _, k := range sortedKeys(s.Labels) {
		labels.put(k, s.Labels[k])
	}
	metadata.put("labels", labels)

	port := s.Options.Port
	if port == 0 {
		port = defaultPort
	}
	probe := func(path string, period, failures int) object {
		return object{{"httpGet", object{{"path", path}, {"port", port}}}, {"periodSeconds", period}, {"failureThreshold", failures}}
	}
	var env list
	for _, v := range s.variables(p) {
		env = append(env, object{{"name", v.key}, {"value", v.value}})
	}
	name, _ := resource(d.System.Accelerator)
	// An accelerator may be several ranks.
	limits := object{{name, strconv.Itoa(max(p.Accelerators()/(p.Replicas*p.Layout.Nodes), 1))}}
	resources := object{{"limits", limits}, {"requests", limits}}
	container := object{{"name", "engine"}, {"image", s.Image}, {"command", list{"/bin/sh", "-c"}}, {"args", list{run}}}
	container.put("env", env)
	container.put("ports", list{object{{"name", "http"}, {"containerPort", port}, {"protocol", "TCP"}}})
	if s.ComputeDomain != "" {
		resources.put("claims", list{object{{"name", "compute-domain"}}})
	}
	container.put("resources", resources)
	if deepEP(d) && p.Layout.Nodes > 1 {
		// NVSHMEM pins memory and rings the NIC's doorbell from the GPU.
		container.put("securityContext", object{{"capabilities", object{{"add", list{"IPC_LOCK", "SYS_RAWIO"}}}}})
	}
	if s.answers(p) {
		// Loading hundreds of gigabytes and compiling takes a good part of an hour in the worst case.
		container.put("startupProbe", probe("/health", 1, 2700))
		container.put("readinessProbe", probe("/health", 5, 3))
		container.put("livenessProbe", probe("/health", 10, 6))
	}
	container.put("volumeMounts", list{object{{"name", "shm"}, {"mountPath", "/dev/shm"}}})
	spec.put("containers", list{container})
	spec.put("volumes", list{object{{"name", "shm"}, {"emptyDir", object{{"medium", "Memory"}}}}})
	if s.ComputeDomain != "" {
		spec.put("resourceClaims", list{object{{"name", "compute-domain"}, {"resourceClaimTemplateName", s.ComputeDomain}}})
	}
	spec.put("nodeSelector", s.selector(p))
	return metadata, spec, nil
}

// selector is the user's, and for a slice of TPUs the labels that GKE gives its nodes.
func (s Serving) selector(p plan.Plan) object {
	labels := map[string]string{}
	if a := p.Deployment.System.Accelerator; a.Vendor == "google" && p.Layout.Shape.Dims[0] > 0 {
		labels["cloud.google.com/gke-tpu-topology"] = p.Layout.Shape.String()
		if len(a.Labels) > 0 {
			labels["cloud.google.com/gke-tpu-accelerator"] = a.Labels[0]
		}
	}
	maps.Copy(labels, s.NodeSelector)
	var out object
	for _, k := range sortedKeys(labels) {
		out.put(k, labels[k])
	}
	return out
}

// answers says that every node of an instance has an API server. Otherwise only the leader does, and its pods, which are
// alike, get no probes.
func (s Serving) answers(p plan.Plan) bool {
	c := p.Deployment.Parallelism
	return p.Layout.Nodes == 1 || p.Deployment.Engine == accel.VLLM && max(c.TP, 1)*max(c.PP, 1) <= p.Layout.PerNode
}

func deepEP(d accel.Deployment) bool {
	return d.Parallelism.EP > 1 && (d.AllToAll == accel.DeepEPHighThroughput || d.AllToAll == accel.DeepEPLowLatency)
}

// variables are what communication libraries need, then the user's.
func (s Serving) variables(p plan.Plan) []field {
	d := p.Deployment
	set := map[string]string{}
	if n := d.DispatchTokens; d.Engine == accel.SGLang && d.AllToAll == accel.DeepEPLowLatency && n > 0 {
		set["SGLANG_DEEPEP_NUM_MAX_DISPATCH_TOKENS_PER_RANK"] = strconv.Itoa(n)
	}
	if d.System.Accelerator.Vendor == "nvidia" && p.Layout.Nodes > 1 {
		if deepEP(d) && p.Layout.Domains > 1 {
			set["NVSHMEM_REMOTE_TRANSPORT"] = "ibgda"
			set["NVSHMEM_IB_ENABLE_IBGDA"] = "true"
		}
		if d.System.ScaleUp.Domain > d.System.PerNode {
			set["NCCL_MNNVL_ENABLE"] = "1"
			set["NCCL_CUMEM_ENABLE"] = "1"
		}
	}
	maps.Copy(set, s.Env)
	var out []field
	for _, k := range sortedKeys(set) {
		out = append(out, field{k, set[k]})
	}
	return out
}
