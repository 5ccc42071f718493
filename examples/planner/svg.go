package main

import (
	"fmt"
	"html"
	"math"
	"strings"

	"github.com/inferloom/inferloom/accel"
	"github.com/inferloom/inferloom/moe/plan"
)

// drawing is a picture of one instance of a plan: its nodes, the ranks on each, what their memory holds, the experts of one
// layer, and the links.
type drawing struct {
	b      strings.Builder
	plan   *plan.Plan
	system accel.System // with each device an accelerator
	place  *placement
	layer  int // that is drawn: the one with the worst balance
	shares []float64
	most   float64 // share of a slot

	columns, rows int // of expert slots in a tile
	tileHeight    float64
}

// Sizes in pixels.
const (
	margin     = 28.
	tileWidth  = 84.
	tileGap    = 8.
	cardPad    = 12.
	cardGap    = 26.
	cell       = 7.
	cellGap    = 1.4
	headHeight = 118.
	railHeight = 46.
	maxNodes   = 24 // that are drawn
)

var inks = struct{ text, soft, faint, card, edge, weights, experts, work, reserve, cache string }{
	"#1c2430", "#5b6675", "#8a94a3", "#f7f9fc", "#d5dce6", "#3b5bdb", "#0ca678", "#f08c00", "#adb5bd", "#d0ebff",
}

// draw draws the best plan.
func (a *answer) draw() []byte {
	d := &drawing{plan: a.best(), place: a.placement}
	d.system = d.plan.Deployment.System.PerDevice()
	d.tileHeight = 62
	if d.place != nil {
		d.worstLayer(a)
		slots := d.place.experts.Cluster.SlotsPerGPU
		most := int(math.Floor((tileWidth - 16 + cellGap) / (cell + cellGap)))
		d.rows = (slots + most - 1) / most
		d.columns = (slots + d.rows - 1) / d.rows
		d.tileHeight += float64(d.rows)*(cell+cellGap) + 6
	}
	var width, height float64
	if d.plan.Layout.Shape.Dims[0] > 0 {
		width, height = d.torus()
	} else {
		width, height = d.nodes()
	}
	width = max(width, 900)
	height = d.legend(height+18, width) + 34
	body := d.b.String()
	d.b.Reset()
	d.open(width, height)
	d.head(width)
	d.b.WriteString(body)
	d.b.WriteString("</svg>\n")
	return []byte(d.b.String())
}

func (d *drawing) worstLayer(a *answer) {
	p := &d.place.experts
	worst := 2.
	var loads []float64
	for l := range p.Layers {
		loads = p.GPULoads(l, a.loads, loads)
		sum, top := 0., 0.
		for _, g := range loads {
			sum, top = sum+g, max(top, g)
		}
		if balance := sum / float64(len(loads)) / max(top, math.SmallestNonzeroFloat64); balance < worst {
			worst, d.layer = balance, l
		}
	}
	d.shares = make([]float64, p.Cluster.Slots())
	for e := range p.Experts {
		tokens, _ := a.loads.At(d.layer, e)
		slots := p.Slots(d.layer, e)
		for _, s := range slots {
			d.shares[s] = tokens / float64(len(slots))
			d.most = max(d.most, d.shares[s])
		}
	}
}

func (d *drawing) open(width, height float64) {
	fmt.Fprintf(&d.b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" font-family="Inter, 'Segoe UI', Helvetica, Arial, sans-serif" role="img">
<title>%s</title>
<rect width="100%%" height="100%%" fill="#ffffff"/>
`, width, height, width, height, html.EscapeString(d.title()))
}

func (d *drawing) title() string {
	return fmt.Sprintf("%s on %s: %s", d.plan.Deployment.Model.Name, d.system.Accelerator.Title, d.plan)
}

func (d *drawing) text(x, y, size float64, color, weight, anchor, s string) {
	fmt.Fprintf(&d.b, `<text x="%.1f" y="%.1f" font-size="%.1f" fill="%s" font-weight="%s" text-anchor="%s">%s</text>`+"\n",
		x, y, size, color, weight, anchor, html.EscapeString(s))
}

func (d *drawing) box(x, y, w, h, radius float64, fill, stroke string) {
	fmt.Fprintf(&d.b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="%.1f" fill="%s" stroke="%s"/>`+"\n", x, y, w, h, radius, fill, stroke)
}

func (d *drawing) line(x1, y1, x2, y2, width float64, color string) {
	fmt.Fprintf(&d.b, `<path d="M%.1f %.1fL%.1f %.1f" stroke="%s" stroke-width="%.1f" fill="none" stroke-linecap="round"/>`+"\n", x1, y1, x2, y2, color, width)
}

// head says what is drawn and what to expect of it.
func (d *drawing) head(width float64) {
	p := d.plan
	d.text(margin, 42, 21, inks.text, "650", "start", p.Deployment.Model.Name)
	d.text(margin, 66, 13.5, inks.soft, "400", "start", fmt.Sprintf("%s  ·  %v  ·  %d × %s  ·  %s", p, p.Deployment.Engine, p.Accelerators(), d.system.Accelerator.Title, d.where()))
	if p.Replicas > 1 {
		d.text(margin, 86, 12, inks.faint, "400", "start", "One instance is drawn; the others are alike.")
	}
	x := width - margin
	figure := func(value, label string) {
		d.text(x, 46, 19, inks.text, "650", "end", value)
		d.text(x, 64, 11, inks.faint, "400", "end", label)
		x -= 30 + max(10.5*float64(len(value)), 6*float64(len(label)))
	}
	if p.Cost.Value > 0 {
		figure(fmt.Sprintf("%.2f", p.Cost.Value), "per M tokens")
	}
	if p.Role != plan.Prefill {
		figure(short(p.Estimate.TPOT.Value), "TPOT")
	}
	if p.Role != plan.Decode {
		figure(short(p.Estimate.TTFT.Value), "TTFT")
	}
	figure(fmt.Sprintf("%.0f", p.PerAccelerator.Value), "tokens/s each")
}

// where says how many instances there are and what each takes.
func (d *drawing) where() string {
	l, n := d.plan.Layout, d.plan.Replicas
	each := fmt.Sprintf("%d nodes", l.Nodes)
	switch {
	case l.Nodes == 1 && l.Ranks == d.system.PerNode:
		each = "a node"
	case l.Nodes == 1:
		each = fmt.Sprintf("%d of %d in a node", l.Ranks, d.system.PerNode)
	}
	if n == 1 {
		return "one instance on " + each
	}
	return fmt.Sprintf("%d instances, each on %s", n, each)
}

// nodes draws nodes as cards, each with its accelerators, and the network below each row of cards.
func (d *drawing) nodes() (width, height float64) {
	l := d.plan.Layout
	across := min(l.PerNode, 4)
	down := (l.PerNode + across - 1) / across
	cardWidth := 2*cardPad + float64(across)*(tileWidth+tileGap) - tileGap
	cardHeight := 30 + cardPad + float64(down)*(d.tileHeight+tileGap) - tileGap
	shown := min(l.Nodes, maxNodes)
	columns := min(shown, max(1, int((1400+cardGap)/(cardWidth+cardGap))))
	if across < 4 && l.Nodes == 1 {
		cardWidth = max(cardWidth, 220)
	}
	rows := (shown + columns - 1) / columns
	columns = (shown + rows - 1) / rows
	y := headHeight
	if rows > 1 { // one network
		pitch := cardHeight + railHeight + cardGap*.6
		d.line(margin-9, y+cardHeight+26.5, margin-9, y+cardHeight+26.5+float64(rows-1)*pitch, 4, d.networkInk())
	}
	for row := range rows {
		first := row * columns
		last := min(first+columns, shown)
		for node := first; node < last; node++ {
			x := margin + float64(node-first)*(cardWidth+cardGap)
			d.card(x, y, cardWidth, cardHeight, node, across, last-first > 1 || rows > 1 || l.Nodes > 1)
		}
		y += cardHeight
		if l.Nodes > 1 {
			d.network(y, float64(last-first)*(cardWidth+cardGap)-cardGap, row == 0, rows > 1)
			y += railHeight
		}
		y += cardGap * .6
	}
	if l.Nodes > shown {
		d.text(margin, y+4, 12, inks.soft, "400", "start", fmt.Sprintf("and %d nodes more, alike", l.Nodes-shown))
		y += 22
	}
	return 2*margin + float64(columns)*(cardWidth+cardGap) - cardGap, y
}

// card draws a node.
func (d *drawing) card(x, y, w, h float64, node, across int, networked bool) {
	l := d.plan.Layout
	d.box(x, y, w, h, 10, inks.card, inks.edge)
	d.text(x+cardPad, y+19, 12, inks.text, "600", "start", fmt.Sprintf("node %d", node))
	up := d.system.ScaleUp
	name := map[bool]string{true: "NVLink", false: "scale-up"}[d.system.Accelerator.Vendor == "nvidia" && up.Kind == accel.Switch]
	if up.Kind == accel.PCIe {
		name = "PCIe"
	}
	label := fmt.Sprintf("%s %.0f GB/s", name, up.Bandwidth.Value/1e9)
	if l.Domains > 0 && up.Domain > d.system.PerNode {
		label = fmt.Sprintf("domain %d · %s", l.Place(node*l.PerNode).Domain, label)
	}
	d.text(x+w-cardPad, y+19, 10.5, inks.faint, "400", "end", label)
	for slot := range l.PerNode {
		tx := x + cardPad + float64(slot%across)*(tileWidth+tileGap)
		ty := y + 30 + float64(slot/across)*(d.tileHeight+tileGap)
		if slot%across > 0 { // the scale-up fabric joins neighbours
			d.line(tx-tileGap, ty+14, tx, ty+14, 3, "#9bb0d0")
		}
		if slot >= across {
			d.line(tx+tileWidth/2, ty-tileGap, tx+tileWidth/2, ty, 3, "#9bb0d0")
		}
		d.tile(tx, ty, l.Place(node*l.PerNode+slot))
	}
	if networked && l.Nodes > 1 {
		for slot := range l.PerNode {
			nx := x + (float64(slot)+.5)*w/float64(l.PerNode)
			d.line(nx, y+h, nx, y+h+22, 1.6, rail(slot, l.PerNode))
			fmt.Fprintf(&d.b, `<circle cx="%.1f" cy="%.1f" r="3.2" fill="%s"/>`+"\n", nx, y+h, rail(slot, l.PerNode))
		}
	}
}

// rail is the colour of a rail.
func rail(slot, of int) string { return fmt.Sprintf("hsl(%d 55%% 55%%)", slot*300/max(of, 1)+200) }

// networkInk is the scale-up fabric's where that joins nodes.
func (d *drawing) networkInk() string {
	if d.system.ScaleUp.Domain > d.system.PerNode {
		return "#9bb0d0"
	}
	return "#dfe5ee"
}

func (d *drawing) network(y, w float64, label, joined bool) {
	x := margin
	if joined {
		x -= 11
		w += 11
	}
	d.box(x, y+22, w, 9, 4.5, d.networkInk(), "none")
	if label {
		out := d.system.ScaleOut
		text := fmt.Sprintf("network, %.0f GB/s a rank", out.Bandwidth.Value/1e9)
		if d.system.ScaleUp.Domain > d.system.PerNode {
			text = fmt.Sprintf("between trays NVLink carries %.0f GB/s a rank; the network %.0f", d.system.ScaleUp.Bandwidth.Value/1e9, out.Bandwidth.Value/1e9)
		} else if out.RailOnly {
			text += ", rails not joined"
		} else {
			text += ", every NIC reaches every other"
		}
		d.text(margin, y+44, 10.5, inks.faint, "400", "start", text)
	}
}

// tile draws an accelerator.
func (d *drawing) tile(x, y float64, at plan.Place) {
	d.box(x, y, tileWidth, d.tileHeight, 7, "#ffffff", inks.edge)
	d.text(x+8, y+17, 12.5, inks.text, "600", "start", fmt.Sprint(at.Rank))
	var job []string
	c := d.plan.Deployment.Parallelism
	for _, g := range []struct {
		name    string
		n, of   int
		visible bool
	}{{"tp", at.TP, c.TP, true}, {"dp", at.DP, c.DP, true}, {"pp", at.PP, c.PP, true}, {"ep", at.EP, c.EP, c.MoETP > 1}} {
		if g.of > 1 && g.visible {
			job = append(job, fmt.Sprintf("%s%d", g.name, g.n))
		}
	}
	d.text(x+tileWidth-8, y+16.5, 9.5, inks.faint, "400", "end", strings.Join(job, " "))
	d.memory(x+8, y+26, tileWidth-16, 9)
	m := d.plan.Memory
	d.text(x+8, y+49, 9.5, inks.soft, "400", "start", fmt.Sprintf("KV %.1f GiB", float64(m.KVBudget)/(1<<30)))
	if d.place != nil {
		d.slots(x+8, y+58, at.EP)
	}
}

// memory draws what fills a device.
func (d *drawing) memory(x, y, w, h float64) {
	m := d.plan.Memory
	total := float64(m.Total)
	d.box(x, y, w, h, 2, "#eef1f5", "none")
	for _, part := range []struct {
		bytes int64
		color string
	}{
		{m.Weights, inks.weights}, {m.Experts, inks.experts}, {m.Activations + m.AllToAll, inks.work}, {m.Reserve, inks.reserve}, {max(m.KVBudget, 0), inks.cache},
	} {
		if pw := float64(part.bytes) / total * w; pw > 0 {
			fmt.Fprintf(&d.b, `<rect x="%.2f" y="%.1f" width="%.2f" height="%.1f" fill="%s"/>`+"\n", x, y, pw, h, part.color)
			x += pw
		}
	}
}

// slots draws the experts of a rank in the layer that is drawn: the darker, the more tokens.
func (d *drawing) slots(x, y float64, rank int) {
	p := &d.place.experts
	for i := range p.Cluster.SlotsPerGPU {
		slot := rank*p.Cluster.SlotsPerGPU + i
		e := p.Row(d.layer)[slot]
		cx, cy := x+float64(i%d.columns)*(cell+cellGap), y+float64(i/d.columns)*(cell+cellGap)
		if e < 0 {
			fmt.Fprintf(&d.b, `<rect x="%.1f" y="%.1f" width="%.0f" height="%.0f" rx="1.2" fill="none" stroke="%s" stroke-dasharray="1.5 1"/>`+"\n", cx, cy, cell, cell, inks.edge)
			continue
		}
		heat := 0.
		if d.most > 0 {
			heat = math.Sqrt(d.shares[slot] / d.most)
		}
		stroke := ""
		if p.Replicas(d.layer, int(e)) > 1 {
			stroke = ` stroke="#c2255c" stroke-width="1"`
		}
		fmt.Fprintf(&d.b, `<rect x="%.1f" y="%.1f" width="%.0f" height="%.0f" rx="1.2" fill="hsl(164 62%% %.0f%%)"%s><title>expert %d, %.3g tokens</title></rect>`+"\n",
			cx, cy, cell, cell, 92-62*heat, stroke, e, d.shares[slot])
	}
}

// torus draws a slice: planes of its first axis side by side, with links between neighbours.
func (d *drawing) torus() (width, height float64) {
	l := d.plan.Layout
	dims := l.Shape.Dims
	planes, across, down := 1, max(dims[1], 1), dims[0]
	if dims[2] > 0 {
		planes, down, across = dims[0], dims[1], dims[2]
	}
	stepX, stepY := tileWidth+26, d.tileHeight+26
	planeWidth := float64(across)*stepX + 30
	perRow := max(1, int(1500/planeWidth))
	at := func(c [3]int) (x, y float64) {
		plane, row, column := 0, c[0], c[1]
		if dims[2] > 0 {
			plane, row, column = c[0], c[1], c[2]
		}
		return margin + float64(plane%perRow)*planeWidth + float64(column)*stepX,
			headHeight + 18 + float64(plane/perRow)*(float64(down)*stepY+34) + float64(row)*stepY
	}
	devices := max(l.Ranks/l.Shape.Size(), 1)
	link := "#9bb0d0"
	for rank := 0; rank < l.Ranks; rank += devices {
		p := l.Place(rank)
		x, y := at(p.Coordinates)
		row, column := p.Coordinates[0], p.Coordinates[1]
		if dims[2] > 0 {
			row, column = p.Coordinates[1], p.Coordinates[2]
		}
		if column+1 < across {
			d.line(x+tileWidth, y+d.tileHeight/2, x+stepX, y+d.tileHeight/2, 3, link)
		}
		if row+1 < down {
			d.line(x+tileWidth/2, y+d.tileHeight, x+tileWidth/2, y+stepY, 3, link)
		}
		d.tile(x, y, p)
	}
	for plane := range planes {
		x, y := margin+float64(plane%perRow)*planeWidth, headHeight+float64(plane/perRow)*(float64(down)*stepY+34)
		if planes > 1 {
			d.text(x, y+8, 11, inks.faint, "400", "start", fmt.Sprintf("plane %d of the first axis", plane))
		}
	}
	rows := (planes + perRow - 1) / perRow
	height = headHeight + 18 + float64(rows)*(float64(down)*stepY+34)
	wraps := "no axis closes to a ring"
	if l.Shape.Wrap != [3]bool{} {
		wraps = "axes that close to a ring: " + wrapped(l.Shape)
	}
	d.text(margin, height-14, 11, inks.faint, "400", "start", fmt.Sprintf("%v torus, %.0f GB/s a chip over all its links; %s", l.Shape, d.plan.Deployment.System.ScaleUp.Bandwidth.Value*float64(devices)/1e9, wraps))
	return 2*margin + float64(min(planes, perRow))*planeWidth, height
}

func wrapped(s accel.Shape) string {
	var out []string
	for i, w := range s.Wrap {
		if w {
			out = append(out, [...]string{"first", "second", "third"}[i])
		}
	}
	return strings.Join(out, ", ")
}

// legend explains colours, and returns how far down it goes.
func (d *drawing) legend(y, width float64) float64 {
	x := margin
	entry := func(color, label string) {
		w := 30 + 5.6*float64(len(label))
		if x+w > width && x > margin {
			x, y = margin, y+22
		}
		d.box(x, y, 12, 12, 2, color, "none")
		d.text(x+18, y+10, 11, inks.soft, "400", "start", label)
		x += w
	}
	gib := func(n int64) string { return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30)) }
	m := d.plan.Memory
	entry(inks.weights, "weights "+gib(m.Weights))
	if m.Experts > 0 {
		entry(inks.experts, "experts "+gib(m.Experts))
	}
	entry(inks.work, "activations, buffers "+gib(m.Activations+m.AllToAll))
	entry(inks.reserve, "reserve "+gib(m.Reserve))
	entry(inks.cache, "KV cache "+gib(m.KVBudget))
	if d.place != nil {
		entry("hsl(164 62% 40%)", fmt.Sprintf("experts of layer %d, the worst balanced: darker is more tokens", withExperts(d.plan.Deployment.Model)[d.layer]))
		entry("#c2255c", "outlined: replicated")
	}
	return y
}
