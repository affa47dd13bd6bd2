package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// tokenAllocationsGoal is the limit that performance_test.go of the client enforces.
const tokenAllocationsGoal = 20

// printTable prints the measurements of the contenders as Markdown.
func printTable(w io.Writer, rows []row, all []*figures) error {
	floor := all[0]
	header := []string{"", "floor itself"}
	for _, f := range all {
		header = append(header, f.name)
	}
	table := [][]string{append(header, "goal")}
	add := func(title, unit string, goal string, value func(*figures) string) {
		cells := []string{title, unit}
		for _, f := range all {
			cells = append(cells, value(f))
		}
		table = append(table, append(cells, goal))
	}

	for i, row := range rows {
		if !row.table {
			continue
		}
		goal := ""
		if row.goal > 0 {
			goal = fmt.Sprintf("≤ %.2f", row.goal)
		}
		add(row.title, number(median(floor.cpu[i]))+" µs", goal, func(f *figures) string {
			if len(f.cpu[i]) == 0 {
				return ""
			}
			return fmt.Sprintf("%.2f", ratio(f.cpu[i], floor.cpu[i]))
		})
		if row.job.Stream {
			add("bytes allocated by one of them", "", "", func(f *figures) string {
				if f.name == javaScriptName {
					return ""
				}
				return fmt.Sprintf("%.0f", median(f.allocated[i]))
			})
		}
	}
	for i, size := range bursts {
		add(fmt.Sprintf("connections for %d sends in bursts of %d", burstSends, size), "", []string{"≤ 80", "≤ 320"}[i],
			func(f *figures) string { return fmt.Sprint(f.connections[i]) })
	}

	var allocations, writes []string
	for _, c := range contenders {
		a, err := c.allocations()
		if err != nil {
			return err
		}
		w, err := c.writes()
		if err != nil {
			return err
		}
		allocations, writes = append(allocations, number(a)), append(writes, number(w))
	}
	for len(allocations) < len(all) {
		allocations, writes = append(allocations, ""), append(writes, "")
	}
	table = append(table, append(append([]string{"allocations, no network", ""}, allocations...), "≤ 50"))
	table = append(table, append(append([]string{"writes for a small request", ""}, writes...), "1"))
	printMarkdown(w, table)
	return nil
}

// printTokens measures how client access tokens are made, and prints the result as Markdown.
func printTokens(w io.Writer, runs int) error {
	makers, err := tokenMakers()
	if err != nil {
		return err
	}
	times := make([][]float64, len(makers))
	allocations := make([]float64, len(makers))
	for range runs {
		for i, maker := range makers {
			t, a, err := maker.measure()
			if err != nil {
				return err
			}
			times[i], allocations[i] = append(times[i], float64(t)/float64(time.Microsecond)), a
		}
	}
	table := [][]string{{"client access token", "time", "ratio", "allocations"}}
	for i, maker := range makers {
		table = append(table, []string{
			maker.name, number(median(times[i])) + " µs", fmt.Sprintf("%.2f", ratio(times[i], times[0])), number(allocations[i]),
		})
	}
	table = append(table, []string{"goal", "", "≤ 0.50", fmt.Sprintf("≤ %d", tokenAllocationsGoal)})
	fmt.Fprintln(w)
	printMarkdown(w, table)
	return nil
}

func printMarkdown(w io.Writer, table [][]string) {
	for i, cells := range table {
		fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
		if i == 0 {
			fmt.Fprintf(w, "| ---%s |\n", strings.Repeat(" | ---:", len(cells)-1))
		}
	}
}
