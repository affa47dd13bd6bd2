package main

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
)

// writePlot draws the CPU time per send against the number of concurrent sends as SVG. Both axes are logarithmic.
func writePlot(file string, rows []row, all []*figures) error {
	const (
		width, height            = 720, 420
		left, right, top, bottom = 70, 150, 50, 60
	)
	type point struct{ concurrency, cpu float64 }
	lines := make([][]point, len(all))
	low, high := math.Inf(1), 0.0
	most := 1.0
	for i, row := range rows {
		if row.secure || row.job.Size != smallBody {
			continue
		}
		most = max(most, float64(row.job.Concurrency))
		for n, f := range all {
			cpu := median(f.cpu[i])
			lines[n] = append(lines[n], point{float64(row.job.Concurrency), cpu})
			low, high = min(low, cpu), max(high, cpu)
		}
	}
	low, high = math.Pow(10, math.Floor(math.Log10(low))), math.Pow(10, math.Ceil(math.Log10(high)))
	x := func(concurrency float64) float64 {
		return left + (width-left-right)*math.Log(concurrency)/math.Log(most)
	}
	y := func(cpu float64) float64 {
		return height - bottom - (height-top-bottom)*math.Log(cpu/low)/math.Log(high/low)
	}

	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	fmt.Fprintf(&b, `<text x="%d" y="26" font-size="16">CPU of the client per send, in µs (user and system)</text>`+"\n", left)
	for decade := low; decade <= high*1.01; decade *= 10 {
		for _, step := range []float64{1, 2, 5} {
			cpu := decade * step
			if cpu > high*1.01 {
				break
			}
			fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%g</text>`+"\n",
				left, y(cpu), width-right, left-8, y(cpu)+4, cpu)
		}
	}
	for _, p := range lines[0] {
		fmt.Fprintf(&b, `<path d="M%.1f %dV%d" stroke="#ddd"/><text x="%[1]f" y="%[4]d" text-anchor="middle">%[5]g</text>`+"\n",
			x(p.concurrency), top, height-bottom, height-bottom+20, p.concurrency)
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">sends at once</text>`+"\n", (left+width-right)/2, height-15)
	colors := []string{"#555555", "#aaaaaa", "#7d8f2e", "#c0392b", "#1f6fb4", "#b8860b"}
	for n, line := range lines {
		var path strings.Builder
		for i, p := range line {
			fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(i, 1)], x(p.concurrency), y(p.cpu))
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`+"\n", x(p.concurrency), y(p.cpu), colors[n])
		}
		fmt.Fprintf(&b, `<path d="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", path.String(), colors[n])
	}
	// Each name is at the end of its line. Names are placed from the top down, without overlaps.
	order := make([]int, len(lines))
	for n := range order {
		order[n] = n
	}
	last := func(n int) float64 { return y(lines[n][len(lines[n])-1].cpu) }
	slices.SortFunc(order, func(n, m int) int { return cmp.Compare(last(n), last(m)) })
	above := 0.0
	for _, n := range order {
		above = max(last(n)+4, above+15)
		fmt.Fprintf(&b, `<text x="%d" y="%.1f" fill="%s">%s</text>`+"\n", width-right+10, above, colors[n], all[n].name)
		if all[n].name == javaScriptName {
			above += 15
			fmt.Fprintf(&b, `<text x="%d" y="%.1f" fill="%s" font-size="11">(mostly one defect,</text>`+"\n", width-right+10, above, colors[n])
			above += 13
			fmt.Fprintf(&b, `<text x="%d" y="%.1f" fill="%s" font-size="11">see the README)</text>`+"\n", width-right+10, above, colors[n])
		}
	}
	b.WriteString("</svg>\n")
	return os.WriteFile(file, []byte(b.String()), 0o644)
}
